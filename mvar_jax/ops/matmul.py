"""Matmul of tokens with a kernel, with gradients in the forms that compilers run fast."""

import jax

from mvar_jax.array_types import Array, Float, HostArray
from mvar_jax.ops.implementations import platform


@jax.custom_vjp
def matmul(
    x: Float[Array, "*batch inputs"], kernel: Float[HostArray, "inputs outputs"]
) -> Float[Array, "*batch outputs"]:
    """`x @ kernel`, of arrays of one dtype.

    JAX's own gradient of the kernel is the transpose of a product that XLA folds into a matmul of
    two transposed matrices, which takes twice as long on CPUs. Here it comes as the kernel lies.
    XLA's CPU compiler also transposes one of the two factors, together with the arithmetic that
    makes it, a column at a time: there it is the narrower one. There is no forward mode.
    """
    return x @ kernel


def _forward(x, kernel):
    return x @ kernel, (x, kernel)


def _backward(saved, gradient):
    x, kernel = saved
    outer = tuple(range(x.ndim - 1))
    of_x = jax.lax.dot_general(gradient, kernel, (((x.ndim - 1,), (1,)), ((), ())))
    sums = ((outer, outer), ((), ()))
    if platform() == "cpu" and x.shape[-1] > gradient.shape[-1]:
        return of_x, jax.lax.dot_general(gradient, x, sums).T
    return of_x, jax.lax.dot_general(x, gradient, sums)


matmul.defvjp(_forward, _backward)
