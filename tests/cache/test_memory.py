"""What layers remember: shapes, dtypes, growth and size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.cache import KVCache, LayerMemory, SSMState, memory_bytes

FLOAT32, BFLOAT16 = jnp.dtype("float32"), jnp.dtype("bfloat16")


def test_a_cache_grows_scale_by_scale():
    keys, values = jax.random.normal(jax.random.key(0), (2, 3, 7, 2, 4))
    empty = KVCache.empty(3, 2, 4, FLOAT32)
    assert empty.key.shape == empty.value.shape == (3, 0, 2, 4)
    cache = empty
    for own in (slice(0, 1), slice(1, 3), slice(3, 7)):
        cache = cache.append(keys[:, own], values[:, own])
    np.testing.assert_array_equal(cache.key, keys)
    np.testing.assert_array_equal(cache.value, values)
    assert empty.key.shape[1] == 0  # a value: appending made another one


def test_a_cache_keeps_its_dtype():
    new = jnp.ones((1, 2, 2, 4), jnp.float32)
    cache = KVCache.empty(1, 2, 4, BFLOAT16).append(new, new)
    assert cache.key.dtype == cache.value.dtype == BFLOAT16


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=str)
def test_a_state_begins_with_zeros(dtype):
    memory = SSMState.zeros(batch=2, heads=3, dim=5, state=7, conv_size=4, dtype=dtype)
    assert memory.tail_x.shape == (2, 3, 15) and memory.tail_x.dtype == dtype
    assert memory.tail_bc.shape == (2, 3, 14) and memory.tail_bc.dtype == dtype
    assert memory.state.shape == (2, 3, 5, 7) and memory.state.dtype == FLOAT32
    assert not any(leaf.any() for leaf in jax.tree.leaves(memory))


def test_bytes_of_a_memory():
    cache = KVCache.empty(2, 3, 4, BFLOAT16)
    assert memory_bytes(LayerMemory()) == memory_bytes(cache) == 0
    tokens = jnp.ones((2, 5, 3, 4))
    cache = cache.append(tokens, tokens)
    assert memory_bytes(cache) == 2 * (2 * 5 * 3 * 4) * 2
    ssm = SSMState.zeros(2, 3, 5, 7, 4, BFLOAT16)
    expected = 2 * 3 * (15 + 14) * 2 + 2 * 3 * 5 * 7 * 4
    assert memory_bytes(ssm) == expected
    assert memory_bytes((LayerMemory(cache, ssm), LayerMemory())) == 480 + expected
    shapes = jax.eval_shape(lambda: SSMState.zeros(2, 3, 5, 7, 4, BFLOAT16))
    assert memory_bytes(shapes) == expected
