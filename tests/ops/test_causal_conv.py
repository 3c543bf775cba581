"""The causal convolution equals its definition, however the sequence is cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.causal_conv import causal_conv

TAPS, LENGTH, CHANNELS = 4, 6, 3


@pytest.fixture
def inputs():
    generator = np.random.default_rng(0)
    shapes = ((2, LENGTH, CHANNELS), (TAPS, CHANNELS), (CHANNELS,), (2, TAPS - 1, CHANNELS))
    return [jnp.float32(generator.standard_normal(shape)) for shape in shapes]


def plain(x, kernel, bias, tail):
    """Channel by channel and token by token, in float64."""
    x, kernel, bias, tail = (np.float64(array) for array in (x, kernel, bias, tail))
    y = np.zeros_like(x)
    for batch, token, channel in np.ndindex(*x.shape):
        y[batch, token, channel] = bias[channel]
        for back in range(TAPS):
            source, place = (x, token - back) if token >= back else (tail, token - back)
            y[batch, token, channel] += (
                kernel[TAPS - 1 - back, channel] * source[batch, place, channel]
            )
    return y


def test_equals_the_definition(inputs):
    x, kernel, bias, tail = inputs
    y, after = causal_conv(x, kernel, bias, tail)
    np.testing.assert_allclose(y, plain(*inputs), atol=1e-6)
    np.testing.assert_array_equal(after, x[:, -3:])


def test_gradients_are_those_of_the_definition(inputs):
    """The output is linear in the tokens and in the kernel: its gradients are sums of outputs."""
    x, kernel, bias, tail = inputs
    weights = jnp.float32(np.random.default_rng(1).standard_normal(x.shape))

    def loss(x, kernel, bias, tail):
        return jnp.sum(causal_conv(x, kernel, bias, tail)[0] * weights)

    actual = jax.grad(loss, argnums=(0, 1, 2, 3))(x, kernel, bias, tail)
    for index, gradient in enumerate(actual):
        for place in np.ndindex(*gradient.shape):
            moved = [np.float64(array) for array in inputs]
            moved[index][place] += 1
            expected = np.sum((plain(*moved) - plain(*inputs)) * np.float64(weights))
            np.testing.assert_allclose(gradient[place], expected, rtol=1e-5, atol=1e-5)


def test_without_a_tail_zeros_come_before(inputs):
    x, kernel, bias, tail = inputs
    y, _ = causal_conv(x, kernel, bias)
    np.testing.assert_array_equal(y, causal_conv(x, kernel, bias, jnp.zeros_like(tail))[0])


@pytest.mark.parametrize("pieces", [(3, 3), (1, 5), (5, 1), (1,) * LENGTH, (2, 1, 2, 1)], ids=str)
def test_cutting_changes_nothing(inputs, pieces):
    x, kernel, bias, tail = inputs
    whole, last_tail = causal_conv(x, kernel, bias, tail)
    joined, start = [], 0
    for length in pieces:
        y, tail = causal_conv(x[:, start : start + length], kernel, bias, tail)
        joined.append(y)
        start += length
    np.testing.assert_allclose(jnp.concatenate(joined, axis=1), whole, atol=1e-6)
    np.testing.assert_array_equal(tail, last_tail)


def test_a_tail_in_another_dtype_is_taken_for_the_tokens(inputs):
    x, kernel, bias, tail = (array.astype(jnp.bfloat16) for array in inputs)
    y, after = causal_conv(x, kernel, bias, tail.astype(jnp.float32))
    assert y.dtype == after.dtype == jnp.bfloat16
