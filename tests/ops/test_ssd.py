"""The chunked state-space layer equals the plain recurrence, in value and gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.ssd import ssd

HEADS, DIM, STATE = 2, 3, 4


def recurrence(x, dt, decay_rate, b, c, initial=None, chunk=None):
    """One token after another, as the definition says."""
    state = jnp.zeros((x.shape[0], HEADS, DIM, STATE), x.dtype) if initial is None else initial

    def step(state, token):
        x, dt, b, c = token
        write = (dt[..., None] * x)[..., None] * b[:, None, None]
        state = jnp.exp(dt * decay_rate)[..., None, None] * state + write
        return state, jnp.sum(state * c[:, None, None], axis=-1)

    sequence = tuple(jnp.moveaxis(array, 1, 0) for array in (x, dt, b, c))
    state, y = jax.lax.scan(step, state, sequence)
    return jnp.moveaxis(y, 0, 1), state


def make_inputs(length, dtype, with_initial):
    rng = np.random.default_rng(length)
    inputs = {
        "x": rng.standard_normal((2, length, HEADS, DIM)),
        "dt": np.exp(rng.uniform(np.log(1e-3), np.log(0.3), (2, length, HEADS))),
        "decay_rate": -rng.uniform(1, 16, HEADS),
        "b": rng.standard_normal((2, length, STATE)),
        "c": rng.standard_normal((2, length, STATE)),
    }
    if with_initial:
        inputs["initial"] = rng.standard_normal((2, HEADS, DIM, STATE))
    return {name: jnp.asarray(value, dtype) for name, value in inputs.items()}


def value_and_gradient(function, inputs, chunk):
    def loss(inputs):
        y, state = function(**inputs, chunk=chunk)
        weights = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
        return jnp.sum(y * weights) + jnp.sum(state**2), (y, state)

    (_, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(inputs)
    return outputs, gradients


def assert_close(actual, expected, tolerance):
    for left, right in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
        largest = float(jnp.abs(right).max())
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance * largest)


@functools.cache
def exact(length, with_initial):
    return value_and_gradient(recurrence, make_inputs(length, "float64", with_initial), None)


@pytest.mark.parametrize("with_initial", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 63, 64, 65, 680, 2240])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_chunked_equals_recurrence(length, with_initial, dtype, tolerance):
    with jax.enable_x64(True):
        inputs = make_inputs(length, dtype, with_initial)
        for chunk in {min(size, length) for size in (64, 256, length)}:
            actual = value_and_gradient(ssd, inputs, chunk)
            assert_close(actual, exact(length, with_initial), tolerance)
