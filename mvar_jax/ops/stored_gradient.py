"""A gradient that is summed once, however many products read it."""

import jax

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.implementations import platform


def stored_gradient(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The identity; in a program for CPUs the gradient of x is stored as soon as it is known.

    XLA's CPU compiler computes a sum again in everything that reads it. The gradient of a residual
    stream is a sum over all later layers, so that the backward pass would grow with the square of
    the depth. It does not repeat a division: the gradient is divided by ones that the compiler
    cannot know. No value changes; where x is not finite, its gradient becomes NaN. Optimization
    barriers are no help, since they are removed before sums are repeated.
    """
    return _stored(x) if platform() == "cpu" else x


@jax.custom_vjp
def _stored(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return x


def _forward(x: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    return x, x


def _backward(x: Float[Array, "..."], gradient: Float[Array, "..."]) -> tuple[Float[Array, "..."]]:
    return (gradient / (x * 0 + 1),)


_stored.defvjp(_forward, _backward)
