"""Self-attention is the same for all scales joined and scale by scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.cache import AttentionShape, memory_bytes, prepare_compression
from mvar_jax.config import ModelConfig
from mvar_jax.convert.layer_names import attention_entries
from mvar_jax.convert.names import read_params
from mvar_jax.models.attention import SelfAttention
from mvar_jax.models.context import ScaleContext
from mvar_jax.scales import ScaleSchedule
from tests.ops.agreement import runs_kernels
from tests.reference import recipe_array, recipe_weights

HEADS, WIDTH = 2, 128
SCHEDULE = ScaleSchedule.squares(1, 2, 3)
X = jnp.asarray(recipe_array("x", (2, SCHEDULE.total, WIDTH)))


def layer_and_params(qk_norm, reach, kernels="auto"):
    config = ModelConfig(depth=1, width=WIDTH, heads=HEADS, qk_norm=qk_norm, kernels=kernels)
    entries = list(attention_entries("attention", (), config))
    weights = recipe_weights({entry.official: entry.official_shape for entry in entries})
    return SelfAttention(config, reach), {"params": read_params(entries, weights)}


def empty_cache():
    full = prepare_compression("full", SCHEDULE, AttentionShape(1, HEADS))
    return full.empty_layer(0, X.shape[0], 64, X.dtype)


def joined(layer, variables):
    mixed, cache = jax.jit(layer.apply, static_argnums=2)(variables, X, ScaleContext(SCHEDULE))
    assert cache is None
    return np.asarray(mixed)


@pytest.mark.parametrize("kernels", ["xla", "pallas_tpu", "pallas_gpu"])
@pytest.mark.parametrize("qk_norm", [True, False], ids=["l2", "nol2"])
def test_scale_by_scale_with_cached_keys_and_values(qk_norm, kernels):
    layer, variables = layer_and_params(qk_norm, "history", kernels)

    @jax.jit
    def run(variables, x):
        cache = empty_cache()
        mixed = []
        for scale, own in enumerate(SCHEDULE.slices):
            context = ScaleContext(SCHEDULE, scale)
            result, cache = layer.apply(variables, x[:, own], context, cache)
            mixed.append(result)
        return jnp.concatenate(mixed, axis=1)

    assert runs_kernels(run, variables, X) == (kernels == "pallas_gpu")  # for TPUs there is none
    expected = joined(layer, variables)
    tolerance = 4e-6 * np.abs(expected).max()
    np.testing.assert_allclose(run(variables, X), expected, rtol=0, atol=tolerance)


def test_without_history_scales_need_no_cache_and_the_last_is_not_kept():
    layer, variables = layer_and_params(False, "scale")
    own = SCHEDULE.slices[2]
    mixed, cache = layer.apply(variables, X[:, own], ScaleContext(SCHEDULE, 2))
    expected = joined(layer, variables)[:, own]
    np.testing.assert_allclose(mixed, expected, rtol=0, atol=4e-6 * np.abs(expected).max())
    assert cache is None

    layer, variables = layer_and_params(False, "history")
    _, after = layer.apply(variables, X[:, own], ScaleContext(SCHEDULE, 2), empty_cache())
    assert memory_bytes(after) == 0
