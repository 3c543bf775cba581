"""Depthwise causal convolution along the sequence, with a tail carried between calls."""

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float


def causal_conv(
    x: Float[Array, "batch n channels"],
    kernel: Float[Array, "taps channels"],
    bias: Float[Array, "channels"],
    tail: Float[Array, "batch tail channels"] | None = None,
) -> tuple[Float[Array, "batch n channels"], Float[Array, "batch tail channels"]]:
    """Convolves every channel with its own kernel, looking only at this and earlier tokens.

    `tail` holds the `taps - 1` inputs before `x`, oldest first; None stands for zeros. Returns
    the outputs and the tail for the tokens that follow, so that a sequence may be cut anywhere.
    The last tap weighs the current token (Mamba-2, arXiv 2405.21060, section 7.1).
    """
    taps, length = len(kernel), x.shape[1]
    if tail is None:
        tail = jnp.zeros((x.shape[0], taps - 1, x.shape[2]), x.dtype)
    padded = jnp.concatenate([tail.astype(x.dtype), x], axis=1)
    return _convolve(padded, kernel) + bias, padded[:, length:]


@jax.custom_vjp
def _convolve(
    padded: Float[Array, "batch _ channels"], kernel: Float[Array, "taps channels"]
) -> Float[Array, "batch n channels"]:
    """The convolution of tokens with the `taps - 1` before them.

    Its gradient with respect to the tokens is the convolution of the outputs' gradient with the
    reversed kernel, one pass over memory; JAX's own stores a product for every tap and sums them.
    """
    return sum(taken * tap for taken, tap in zip(_windows(padded, len(kernel)), kernel))


def _windows(padded, taps):
    """The tokens that each tap weighs, oldest first."""
    length = padded.shape[1] - taps + 1
    return [padded[:, tap : tap + length] for tap in range(taps)]


def _forward(padded, kernel):
    return _convolve(padded, kernel), (padded, kernel)


def _backward(saved, gradient):
    padded, kernel = saved
    around = (len(kernel) - 1,) * 2
    of_padded = _convolve(jnp.pad(gradient, ((0, 0), around, (0, 0))), kernel[::-1])
    windows = _windows(padded, len(kernel))
    of_kernel = jnp.stack([jnp.sum(gradient * taken, axis=(0, 1)) for taken in windows])
    return of_padded.astype(padded.dtype), of_kernel.astype(kernel.dtype)


_convolve.defvjp(_forward, _backward)
