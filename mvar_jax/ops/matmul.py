"""Matmul of tokens with a kernel, with gradients in the forms that compilers run fast."""

import jax

from mvar_jax.array_types import Array, Float, HostArray


@jax.custom_vjp
def matmul(
    x: Float[Array, "*batch inputs"], kernel: Float[HostArray, "inputs outputs"]
) -> Float[Array, "*batch outputs"]:
    """`x @ kernel`, of arrays of one dtype.

    JAX's own gradient of the kernel is the transpose of a product that XLA folds into a matmul of
    two transposed matrices, which takes twice as long on CPUs. Here it comes as the kernel lies.
    There is no forward mode.
    """
    return x @ kernel


def _forward(x, kernel):
    return x @ kernel, (x, kernel)


def _backward(saved, gradient):
    x, kernel = saved
    outer = tuple(range(x.ndim - 1))
    of_x = jax.lax.dot_general(gradient, kernel, (((x.ndim - 1,), (1,)), ((), ())))
    of_kernel = jax.lax.dot_general(x, gradient, ((outer, outer), ((), ())))
    return of_x, of_kernel


matmul.defvjp(_forward, _backward)
