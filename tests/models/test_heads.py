"""Reordering heads does not change what the trunk computes."""

import jax
import numpy as np
import pytest

from mvar_jax.models.heads import order_heads
from tests.models.test_trunk import example, random_params, tiny


@pytest.mark.parametrize("qk_norm", [True, False])
def test_a_trunk_with_reordered_heads_computes_the_same(qk_norm):
    trunk = tiny(("scale", "history"), qk_norm=qk_norm)
    params, apply = random_params(trunk), jax.jit(trunk.apply)
    layers, heads = trunk.attention_shape
    rng = np.random.default_rng(0)
    order = [tuple(map(int, rng.permutation(heads)))[::-1] for _ in range(layers)]
    order[0] = tuple(range(heads))[::-1]
    other = order_heads(params, trunk, order)
    before, after = (p["blocks_1"]["attention"]["qkv"] for p in (params, other))
    np.testing.assert_array_equal(after[0], before[0][:, :, ::-1])
    same, expected = (apply({"params": p}, *example(trunk)) for p in (other, params))
    largest = float(np.abs(expected).max())
    np.testing.assert_allclose(same, expected, rtol=0, atol=1e-5 * largest)
    assert order_heads(params, trunk, None) is params
