"""Low-rank adapters: what they change, that they start as nothing, and that they add up."""

import math
from collections import Counter
from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from mvar_jax.array_types import path_name
from mvar_jax.config import AdapterConfig
from mvar_jax.config.files import load_config
from mvar_jax.config.tree import from_config_dict
from mvar_jax.models.adapter import class_rows, draw_adapter, merge, spread_classes
from mvar_jax.models.attention import SelfAttention
from mvar_jax.models.layers import Projection
from mvar_jax.models.parameters import parameter
from mvar_jax.training.weights import adapter_shapes, trunk_shapes
from tests.models.test_parameters import shapes_of, small_trunk
from tests.models.test_parameters import text_trunk as small_text_trunk
from tests.models.test_trunk import decode, example, random_params, tiny

RANK, STRENGTH = 2, 0.7
CONFIG = AdapterConfig(rank=RANK)
KEY = jax.random.key(0)
# By pattern, the projections of its blocks.
ATTENTION = ("attention/qkv", "attention/out/kernel")
FFN = ("ffn/up/kernel", "ffn/down/kernel")
SSM = tuple(f"ssm/{name}/kernel" for name in ("in_zx", "in_bc", "in_dt", "out"))
CROSS = tuple(f"cross_attention/{name}/kernel" for name in ("query", "key_value", "out"))


def random_adapter(params, seed=0):
    """An adapter that changes everything that one may change."""
    shapes = jax.eval_shape(partial(draw_adapter, config=CONFIG), params, key=KEY)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.2, leaf.shape), "f4"), shapes)


def leaves(tree):
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize(
    ("trunk", "layers", "expected"),
    [
        (small_trunk(("history",)), CONFIG.layers, ATTENTION + FFN),
        (small_trunk(("scale+ssm",)), CONFIG.layers, ATTENTION + FFN + SSM),
        (small_trunk(("scale+ssm",)), ("ssm",), SSM),
        (small_trunk(("history",)), ("modulation",), ("modulation/kernel",)),
        (small_text_trunk(), CONFIG.layers, ATTENTION + FFN + CROSS),
    ],
    ids=["var", "mvar", "ssm", "modulation", "infinity"],
)
def test_the_projections_of_every_trunk_have_factors_of_their_shapes(trunk, layers, expected):
    shapes = shapes_of(trunk)
    draw = partial(draw_adapter, config=AdapterConfig(rank=RANK, layers=layers), key=KEY)
    found = leaves(jax.eval_shape(draw, shapes))
    classes = found.pop("class_embedding", None)
    assert (classes is None) == ("class_embedding" not in shapes)
    assert set(found) == {f"blocks_0/{name}/{part}" for name in expected for part in ("down", "up")}
    kernels = leaves(shapes)
    for name in expected:
        kernel = kernels[f"blocks_0/{name}"].shape
        down, up = (found[f"blocks_0/{name}/{part}"].shape for part in ("down", "up"))
        assert (down[0], *down[1:-1], *up[2:]) == kernel and up[0] == kernel[0]
        rank = min(RANK, math.prod(down[1:-1]), math.prod(up[2:]))
        assert down[-1] == up[1] == rank
        axes = parameter(f"blocks_0/{name}").axes
        first, second = (parameter(f"opt_state/mu/blocks_0/{name}/{p}") for p in ("down", "up"))
        assert first.decayed and second.decayed and (first.heads, second.heads) == (None, None)
        assert (first.axes[:-1] + second.axes[2:], first.axes[-1:]) == (axes, (None,))
        assert second.axes[:2] == (None, None)


@pytest.mark.parametrize(
    ("file", "rank", "share"),
    [
        ("var_imagenet256.py:d16", 16, 0.0168),
        ("mvar_imagenet256.py:d16", 16, 0.0170),
        ("digits.py", 2, 0.0152),
    ],
)
def test_an_adapter_is_small_beside_its_trunk(file, rank, share):
    config = from_config_dict(load_config(file))
    model = replace(config.model, num_classes=config.model.num_classes or 10)
    config = replace(config, model=model, adapter=AdapterConfig(rank=rank))
    adapter, trunk = (
        sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
        for shapes in (adapter_shapes(config), trunk_shapes(config))
    )
    assert adapter / trunk == pytest.approx(share, abs=1e-4)


def test_a_new_adapter_changes_nothing_and_its_draws_are_of_the_names():
    params = random_params(tiny(("scale+ssm",)))
    adapter = draw_adapter(params, CONFIG, KEY)
    merged = merge(params, adapter, strength=STRENGTH)
    jax.tree.map(np.testing.assert_array_equal, merged, params)
    alone = draw_adapter(params, AdapterConfig(rank=RANK, layers=("ffn",)), KEY)
    ffn = adapter["blocks_0"]["ffn"]
    jax.tree.map(np.testing.assert_array_equal, alone["blocks_0"]["ffn"], ffn)
    downs = [leaf for name, leaf in leaves(adapter).items() if name.endswith("/down")]
    for down in downs:
        inputs = math.prod(down.shape[1:-1])
        assert 0.5 < float(jnp.std(down)) * (3 * inputs) ** 0.5 < 1.6
    assert len({float(down.flat[0]) for down in map(np.asarray, downs)}) == len(downs)


class Unmerged:
    """Adds `strength * (x @ down) @ up` to the outputs of projections, which stay as they are."""

    def __init__(self, adapter, strength, depth):
        self._layers, self._strength = adapter["blocks_0"], strength
        self._depth, self._calls = depth, Counter()

    def __call__(self, call, arguments, settings, context):
        module, method = context.module, context.method_name
        if isinstance(module, SelfAttention) and method == "_project":
            query, key, value, raw = call(*arguments, **settings)
            change = self._change((*module.path, "qkv"), arguments[0])
            order = "batch n (part heads dim) -> part batch heads n dim"
            q, k, v = rearrange(change, order, part=3, heads=query.shape[1])
            return query + q, key + k, value + v, raw + q
        if isinstance(module, Projection) and method == "__call__":
            path = (*module.path, "kernel")
            return call(*arguments, **settings) + self._change(path, arguments[0])
        return call(*arguments, **settings)

    def _change(self, path, x):
        layer = self._calls[path] % self._depth
        self._calls[path] += 1
        pair = self._layers
        for name in path:
            if name not in pair:
                return 0.0
            pair = pair[name]
        down, up = pair["down"][layer], pair["up"][layer]
        low = x @ down.reshape(x.shape[-1], -1)
        return self._strength * low @ up.reshape(low.shape[-1], -1)


@pytest.mark.parametrize("pattern", [("history",), ("scale+ssm",)], ids=["var", "mvar"])
def test_merged_and_unmerged_models_predict_alike_scale_by_scale(pattern):
    trunk = tiny(pattern, scan=False, remat="none")  # which would trace a layer once
    params = random_params(trunk)
    condition, inputs = example(trunk)
    adapter = random_adapter(params)
    run = jax.jit(lambda params: decode(trunk, params, condition, inputs)[0])
    merged = run(merge(params, adapter, strength=STRENGTH))
    classes = params["class_embedding"].at[:-1].add(adapter["class_embedding"])
    unmerged = Unmerged(adapter, STRENGTH, trunk.config.depth)
    with nn.intercept_methods(unmerged):
        apart = jax.jit(lambda params: decode(trunk, params, condition, inputs)[0])(
            params | {"class_embedding": classes}
        )
    np.testing.assert_allclose(apart, merged, rtol=0, atol=1e-5 * np.abs(merged).max())
    assert np.abs(merged - run(params)).max() > 0.1
    calls = unmerged._calls
    adapted = {"/".join(path) for path in calls} & {
        name.removeprefix("blocks_0/").rpartition("/")[0] for name in leaves(adapter)
    }
    assert len(adapted) == len(leaves(adapter["blocks_0"])) // 2  # each of them was looked at


def test_adapters_add_up_in_any_order_and_by_their_weights():
    params = random_params(tiny(("history",)))
    one, other = random_adapter(params, 1), random_adapter(params, 2)
    add = partial(merge, strength=STRENGTH)
    both, again = add(add(params, one), other), add(add(params, other), one)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), both, again)
    jax.tree.map(np.testing.assert_array_equal, add(params, one, weight=0.0), params)
    half = add(add(params, one, weight=0.5), one, weight=0.5)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), half, add(params, one))


def test_classes_are_taken_along_by_their_rows_and_new_ones_start_as_the_mean():
    embedding = jnp.arange(12.0).reshape(4, 3)  # of three classes, and of none
    rows = class_rows(embedding, [2, None])
    np.testing.assert_array_equal(rows, [[6, 7, 8], [3, 4, 5], [9, 10, 11]])
    adapter = {"class_embedding": jnp.ones((2, 3))}
    spread = spread_classes(adapter, [2, 0], 4)["class_embedding"]
    np.testing.assert_array_equal(spread, np.array([1, 0, 1, 0])[:, None] * np.ones(3))
    assert spread_classes({"blocks_0": {}}, [], 0) == {"blocks_0": {}}
    merged = merge({"class_embedding": rows}, adapter, strength=1.0, weight=2.0)
    np.testing.assert_array_equal(merged["class_embedding"], rows + np.array([[2], [2], [0]]))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rank": -1}, r"adapter.rank: got -1, expected 0 \(no adapter\) or more"),
        ({"alpha": 0.0}, "adapter.alpha: got 0.0, expected more than 0"),
        ({"layers": ("head",)}, r"adapter.layers: got \('head',\), expected some of attention, "),
        ({"layers": ()}, r"adapter.layers: got \(\), expected some of"),
    ],
)
def test_settings_that_make_no_adapter_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        AdapterConfig(**settings)


def test_layers_that_no_block_has_are_refused():
    shapes = shapes_of(small_trunk(("history",)))
    draw = partial(draw_adapter, config=AdapterConfig(rank=RANK, layers=("ssm",)), key=KEY)
    with pytest.raises(ValueError, match=r"adapter.layers: got ssm, which no block of the model"):
        jax.eval_shape(draw, shapes)


def test_only_projections_have_factors():
    with pytest.raises(ValueError, match="blocks_0/ssm/conv_x/kernel has no factors; it is no pro"):
        parameter("blocks_0/ssm/conv_x/kernel/down")
