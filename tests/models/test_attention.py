"""Self-attention computes what the original computes, joined and scale by scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.cache import AttentionShape, memory_bytes, prepare_compression
from mvar_jax.config import ModelConfig
from mvar_jax.convert.names import read_params
from mvar_jax.convert.trunk_names import attention_entries
from mvar_jax.models.attention import SelfAttention
from mvar_jax.models.context import ScaleContext
from mvar_jax.scales import ScaleSchedule
from tests.reference import load_golden, recipe_weights

GOLDEN = load_golden("comp_attention")
X = jnp.asarray(GOLDEN["x"])
SCHEDULE = ScaleSchedule.squares(*GOLDEN.config["config"]["patch_nums"])
HEADS = GOLDEN.config["config"]["heads"]
VARIANTS = pytest.mark.parametrize("qk_norm", [True, False], ids=["l2", "nol2"])


def layer_and_params(qk_norm, reach):
    config = ModelConfig(depth=1, width=X.shape[-1], heads=HEADS, qk_norm=qk_norm)
    entries = list(attention_entries("attention", (), config))
    weights = recipe_weights({entry.official: entry.official_shape for entry in entries})
    if qk_norm:
        weights["attention.scale_mul_1H11"] = GOLDEN["scale_mul_1H11"]
    return SelfAttention(config, reach), {"params": read_params(entries, weights)}


def empty_cache(schedule):
    full = prepare_compression("full", schedule, AttentionShape(1, HEADS))
    return full.empty_layer(0, X.shape[0], 64, X.dtype)


@VARIANTS
@pytest.mark.parametrize(("reach", "name"), [("history", "var"), ("scale", "mvar")])
def test_joined_scales(qk_norm, reach, name):
    layer, variables = layer_and_params(qk_norm, reach)
    mixed, cache = jax.jit(layer.apply, static_argnums=2)(variables, X, ScaleContext(SCHEDULE))
    GOLDEN.check(f"{name}_{'l2' if qk_norm else 'nol2'}_out", mixed)
    assert cache is None


@VARIANTS
def test_scale_by_scale_with_cached_keys_and_values(qk_norm):
    layer, variables = layer_and_params(qk_norm, "history")
    # A further scale, so that the last of the file's is remembered too.
    longer = ScaleSchedule((*SCHEDULE.sizes, SCHEDULE.last))

    @jax.jit
    def run(variables, x):
        cache = empty_cache(longer)
        mixed = []
        for scale, own in enumerate(SCHEDULE.slices):
            context = ScaleContext(longer, scale)
            result, cache = layer.apply(variables, x[:, own], context, cache)
            mixed.append(result)
        return jnp.concatenate(mixed, axis=1), cache

    mixed, cache = run(variables, X)
    name = f"var_{'l2' if qk_norm else 'nol2'}"
    GOLDEN.check(f"{name}_out", mixed)
    GOLDEN.check(f"{name}_k_cache", cache.groups[0].key)
    GOLDEN.check(f"{name}_v_cache", cache.groups[0].value)


def test_without_history_scales_need_no_cache_and_the_last_is_not_kept():
    layer, variables = layer_and_params(False, "scale")
    own = SCHEDULE.slices[2]
    mixed, cache = layer.apply(variables, X[:, own], ScaleContext(SCHEDULE, 2))
    expected = GOLDEN["mvar_nol2_out"][:, own]
    np.testing.assert_allclose(mixed, expected, rtol=0, atol=GOLDEN.tolerance("mvar_nol2_out"))
    assert cache is None

    layer, variables = layer_and_params(False, "history")
    _, after = layer.apply(variables, X[:, own], ScaleContext(SCHEDULE, 2), empty_cache(SCHEDULE))
    assert memory_bytes(after) == 0
