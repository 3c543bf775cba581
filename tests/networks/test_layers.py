"""Convolutions with folded norms, and pools at the edges of maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.networks.layers import (
    average_pool,
    convolve,
    convolve_channels,
    fold_norms,
    max_pool,
)


def some(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_folded_norm_is_the_norm_after_the_convolution():
    x, kernel = some(2, 6, 5, 3), some(3, 3, 3, 4, seed=1)
    norm = dict(zip(("scale", "shift", "mean"), some(3, 4, seed=2)))
    norm["variance"] = np.abs(some(4, seed=3)) + 0.1
    params = {"stem": {"kernel": kernel, "norm": norm}, "head": {"kernel": kernel[0, 0]}}
    folded = fold_norms(params, 1e-3)
    plain = convolve({"kernel": kernel, "bias": 0.0}, jnp.asarray(x))
    expected = (plain - norm["mean"]) / np.sqrt(norm["variance"] + 1e-3)
    expected = expected * norm["scale"] + norm["shift"]
    np.testing.assert_allclose(convolve(folded["stem"], jnp.asarray(x)), expected, atol=2e-5)
    assert folded["stem"]["kernel"].dtype == np.float32 and "norm" not in folded["stem"]
    assert folded["head"] is params["head"]


def test_averages_count_only_pixels_that_exist():
    np.testing.assert_allclose(average_pool(jnp.ones((1, 4, 5, 2))), 1)
    ramp = jnp.arange(4, dtype=jnp.float32).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(average_pool(ramp), np.full((1, 2, 2, 1), 1.5))


def test_the_largest_of_a_padded_window_may_be_negative():
    below = jnp.full((1, 3, 3, 1), -2, jnp.float32)
    np.testing.assert_array_equal(max_pool(below, 3, 1, "SAME"), below)


@pytest.mark.parametrize(("side", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_channels_by_themselves_are_a_convolution_in_groups(side, stride):
    x, kernel, bias = some(2, 9, 8, 4), some(side, side, 1, 4, seed=1), some(4, seed=2)
    expected = jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=4,
    )
    params = {"kernel": kernel, "bias": bias}
    made = convolve_channels(params, jnp.asarray(x), stride=stride)
    np.testing.assert_allclose(made, expected + bias, atol=1e-5)
