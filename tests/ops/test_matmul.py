"""The matmul of projections: JAX's own, but for the order in which gradients are computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mvar_jax.ops.matmul import matmul


def given(shape, dtype=jnp.float32, sizes=(5, 7)):
    keys = jax.random.split(jax.random.key(len(shape)))
    kernel = jax.random.normal(keys[1], sizes, dtype)
    return jax.random.normal(keys[0], (*shape, sizes[0]), dtype), kernel


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 4, 3)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("sizes", [(5, 7), (7, 5)])
def test_values_and_gradients_are_those_of_the_plain_product(shape, dtype, sizes):
    x, kernel = given(shape, dtype, sizes)
    y, pull = jax.vjp(matmul, x, kernel)
    expected, pull_expected = jax.vjp(jnp.matmul, x, kernel)
    np.testing.assert_array_equal(y, expected)
    weights = jnp.cos(jnp.arange(y.size, dtype=dtype)).reshape(y.shape)
    for got, want in zip(pull(weights), pull_expected(weights), strict=True):
        assert got.dtype == dtype and got.shape == want.shape
        tolerance = 1e-6 if dtype == jnp.float32 else 2e-2
        got, want = (np.asarray(array, np.float32) for array in (got, want))
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def test_it_can_be_mapped_and_recomputed():
    x, kernel = given((2, 3))
    kernels = jnp.stack([kernel, 2 * kernel])
    loss = jax.checkpoint(lambda x, kernels: jnp.sum(jnp.sin(jax.vmap(matmul)(x, kernels))))
    check_grads(loss, (x, kernels), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_the_gradient_of_the_kernel_transposes_no_result():
    """A transposed result makes XLA multiply two transposed matrices."""
    x, kernel = given((2, 3))
    gradient = jax.jit(jax.grad(lambda kernel: jnp.sum(jnp.sin(matmul(x, kernel)))))
    text = gradient.lower(kernel).as_text()
    assert "transpose" not in text and "contracting_dims = [0, 1] x [0, 1]" in text


@pytest.mark.parametrize("sizes", [(48, 16), (16, 48)])
def test_the_narrower_factor_of_the_kernels_gradient_is_transposed(sizes):
    """XLA's CPU compiler reads what it transposes, and computes it, a column at a time."""
    x, kernel = given((2, 32), sizes=sizes)
    loss = jax.jit(jax.grad(lambda kernel, x: jnp.sum(jnp.sin(matmul(jnp.tanh(x), kernel)))))
    text = loss.lower(kernel, x).compile().as_text()
    assert "f32[16,64]" in text and "f32[48,64]" not in text
