"""Buckets of relative positions."""

import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.relative_position import relative_bias, relative_buckets


def test_thresholds_are_those_of_t5():
    buckets = relative_buckets(-np.arange(130), 32, 128)
    starts = [int(np.argmax(buckets == bucket)) for bucket in range(16)]
    assert starts == [*range(8), 8, 12, 16, 23, 32, 46, 64, 91]


@pytest.mark.parametrize(
    ("buckets", "farthest"), [(32, 128), (16, 40), (8, 20), (4, 3), (64, 1000)]
)
def test_buckets_are_those_of_the_formula(buckets, farthest):
    distances = np.arange(-2 * farthest, 2 * farthest + 1)
    half, exact = buckets // 2, buckets // 4
    far = np.abs(distances)
    ratio = np.log(np.maximum(far, exact) / exact) / np.log(farthest / exact)
    grown = exact + np.floor(ratio * (half - exact) + 1e-9)
    expected = np.where(far < exact, far, np.minimum(grown, half - 1)) + half * (distances > 0)
    np.testing.assert_array_equal(relative_buckets(distances, buckets, farthest), expected)


def test_the_bias_is_the_table_at_the_bucket():
    table = jnp.arange(8.0 * 3).reshape(8, 3)
    bias = relative_bias(table, 6, 20)
    assert bias.shape == (3, 6, 6)
    for query in range(6):
        buckets = relative_buckets(np.arange(6) - query, 8, 20)
        np.testing.assert_array_equal(bias[:, query], table[buckets].T)
