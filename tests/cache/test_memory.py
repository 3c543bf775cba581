"""The memory of layers: shapes, dtypes, growth and size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.cache import KVCache, LayerCache, LayerMemory, SSMState, memory_bytes
from mvar_jax.scales import ScaleSchedule

FLOAT32, BFLOAT16 = jnp.dtype("float32"), jnp.dtype("bfloat16")


SCHEDULE = ScaleSchedule.squares(1, 2)


def empty(batch, heads, dim, dtype, **storage):
    return KVCache.empty(batch, heads, dim, dtype, SCHEDULE, **storage)


def grown(dtype=FLOAT32, **storage):
    """Two scales of random tokens, and the cache that they leave."""
    keys, values = jax.random.normal(jax.random.key(0), (2, 3, 2, 5, 4)).astype(dtype)
    cache = empty(3, 2, 4, dtype, **storage)
    for own in SCHEDULE.slices:
        cache = cache.append(keys[:, :, own], values[:, :, own], own.start)
    return keys, values, cache


def test_a_cache_grows_scale_by_scale():
    keys, values, cache = grown()
    np.testing.assert_array_equal(cache.key, keys)
    np.testing.assert_array_equal(cache.value, values)
    assert cache.position.dtype == jnp.int16
    np.testing.assert_array_equal(cache.position, np.broadcast_to(np.arange(5), (3, 2, 5)))
    np.testing.assert_array_equal(cache.source(SCHEDULE)[0, 0], [0, 1, 1, 1, 1])
    assert KVCache.empty(1, 1, 1, FLOAT32, ScaleSchedule.squares(200)).position.dtype == jnp.int32


def test_every_row_and_head_takes_its_own_tokens():
    keys, _, cache = grown(scored=True)
    indices = jnp.array([[[0, 4], [1, 2]], [[3, 4], [0, 1]], [[0, 3], [2, 3]]])
    taken = cache.take(indices)
    np.testing.assert_array_equal(taken.position, indices)
    np.testing.assert_array_equal(taken.key[1, 0], keys[1, 0, 3:])
    np.testing.assert_array_equal(taken.key[0, 1], keys[0, 1, 1:3])
    assert taken.score.shape == (3, 2, 2) and cache.length == 5  # a value: this is another one


def test_a_cache_keeps_its_dtype():
    new = jnp.ones((1, 2, 2, 4), jnp.float32)
    cache = empty(1, 2, 4, BFLOAT16).append(new, new, 0)
    assert cache.key.dtype == cache.value.dtype == BFLOAT16


def test_8_bit_storage_is_off_by_half_a_level_at_most():
    keys, values, cache = grown(int8=True)
    assert cache.key.dtype == cache.value.dtype == jnp.int8
    for exact, stored in zip((keys, values), cache.read(FLOAT32)):
        bound = jnp.abs(exact).max(axis=-1, keepdims=True) / 254
        assert jnp.all(jnp.abs(stored - exact) <= bound * 1.0001)
    zero = jnp.zeros((1, 1, 1, 4))
    nothing = empty(1, 1, 4, FLOAT32, int8=True).append(zero, zero, 0)
    np.testing.assert_array_equal(nothing.read(FLOAT32)[0], zero)


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=str)
def test_a_state_starts_with_zeros(dtype):
    memory = SSMState.zeros(batch=2, heads=3, dim=5, state=7, conv_size=4, dtype=dtype)
    assert memory.tail_x.shape == (2, 3, 15) and memory.tail_x.dtype == dtype
    assert memory.tail_bc.shape == (2, 3, 14) and memory.tail_bc.dtype == dtype
    assert memory.state.shape == (2, 3, 5, 7) and memory.state.dtype == FLOAT32
    assert not any(leaf.any() for leaf in jax.tree.leaves(memory))


def test_bytes_of_a_memory():
    cache = empty(2, 3, 4, BFLOAT16)
    assert memory_bytes(LayerMemory()) == memory_bytes(cache) == 0
    tokens = jnp.ones((2, 3, 5, 4))
    token = 2 * 4 * 2 + 2  # key and value in 16 bits, and the position
    cache = cache.append(tokens, tokens, 0)
    assert memory_bytes(cache) == 2 * 3 * 5 * token
    table = jnp.ones((3, 7))  # belongs to the model
    ssm = SSMState.zeros(2, 3, 5, 7, 4, BFLOAT16)
    expected = 2 * 3 * (15 + 14) * 2 + 2 * 3 * 5 * 7 * 4
    assert memory_bytes(ssm) == expected
    assert (
        memory_bytes((LayerMemory(LayerCache((cache,), table), ssm), LayerMemory()))
        == 2 * 3 * 5 * token + expected
    )
    small = empty(2, 3, 4, FLOAT32, int8=True, scored=True).append(tokens, tokens, 0)
    assert memory_bytes(small) == 2 * 3 * 5 * (2 * 4 + 2 + 3 * 4)
    shapes = jax.eval_shape(lambda: SSMState.zeros(2, 3, 5, 7, 4, BFLOAT16))
    assert memory_bytes(shapes) == expected
