import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.ops.stored_gradient import stored_gradient


def loss(kernels, x, keep=stored_gradient):
    for kernel in kernels:
        x = keep(x)
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        normal = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + 1)
        x = x + jnp.tanh(normal @ kernel)
    return jnp.sum(jnp.square(x))


def additions(depth):
    """How often an addition stands in the program of the gradients of as many layers."""
    arguments = [jnp.ones((64, 64))] * depth, jnp.ones((128, 64))
    return jax.jit(jax.grad(loss)).lower(*arguments).compile().as_text().count(" add(")


def test_it_changes_no_gradient():
    kernels, x = jax.random.split(jax.random.key(0))
    arguments = jax.random.normal(kernels, (3, 8, 8)), jax.random.normal(x, (4, 8))
    gradients = jax.grad(loss, argnums=(0, 1))
    plain = gradients(*arguments, keep=lambda x: x)
    jax.tree.map(np.testing.assert_array_equal, gradients(*arguments), plain)


def test_the_backward_pass_grows_with_the_depth_not_its_square():
    four, eight, sixteen = map(additions, (4, 8, 16))
    assert sixteen - eight <= 2 * (eight - four)


def test_a_gradient_of_what_is_not_finite_is_not_hidden():
    x = jnp.array([1.0, jnp.inf])
    gradient = jax.grad(lambda x: jnp.sum(stored_gradient(x)))(x)
    np.testing.assert_array_equal(gradient, [1, jnp.nan])
