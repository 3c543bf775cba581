"""The state-space layer equals the plain recurrence, in value and gradient, in all forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.ssd import SSD, ssd
from tests.ops.agreement import ImplementationsAgree

HEADS, DIM, STATE = 2, 3, 4
CASES = {
    f"{length} tokens, {'skip' if skip else 'no skip'}": (length, skip)
    for length, skip in ((24, True), (128, False), (300, True))
}


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


chunked = functools.partial(ssd, implementation="xla")


@pytest.mark.parametrize("with_initial", [False, True])
@pytest.mark.parametrize(
    "length", [1, 3, 65, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 63, 64, 680, 2240))]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_chunked_equals_recurrence(length, with_initial, dtype, tolerance, monkeypatch):
    monkeypatch.setattr("mvar_jax.ops._xla_ssd.CPU_CHUNK", length)
    with jax.enable_x64(True):
        inputs = make_inputs(length, dtype, with_initial)
        for chunk in {min(size, length) for size in (64, 256, length)}:
            actual = value_and_gradient(chunked, inputs, chunk)
            assert_close(actual, exact(length, with_initial), tolerance)


def test_a_skip_adds_the_inputs_and_no_state_is_returned_unasked():
    inputs = make_inputs(5, "float32", False)
    y, _ = ssd(**inputs)
    skip = jnp.array([0.5, 2.0])
    skipped, state = ssd(**inputs, skip=skip, return_state=False)
    assert state is None
    np.testing.assert_allclose(skipped, y + skip[:, None] * inputs["x"], rtol=0, atol=1e-6)


class TestImplementations(ImplementationsAgree):
    op = SSD
    tolerance = 1e-5
    cases = CASES

    def arrays(self, case):
        length, skip = case
        keys = jax.random.split(jax.random.key(length), 6)
        x = jax.random.normal(keys[0], (2, length, 4, 64))
        dt = jax.nn.softplus(jax.random.normal(keys[1], (2, length, 4)) - 2)
        decay_rate = -jnp.exp(jax.random.normal(keys[2], (4,)))
        b, c = (jax.random.normal(key, (2, length, 32)) for key in keys[3:5])
        return x, dt, decay_rate, b, c, jax.random.normal(keys[5], (4,)) if skip else None

    def compute(self, case, arrays, implementation):
        *inputs, skip = arrays
        return ssd(*inputs, skip=skip, return_state=False, implementation=implementation)[0]
