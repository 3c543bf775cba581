"""Depthwise causal convolution along the sequence, with a tail carried between calls."""

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
    taps, length = kernel.shape[0], x.shape[1]
    if tail is None:
        tail = jnp.zeros((x.shape[0], taps - 1, x.shape[2]), x.dtype)
    padded = jnp.concatenate([tail.astype(x.dtype), x], axis=1)
    y = sum(padded[:, tap : tap + length] * kernel[tap] for tap in range(taps)) + bias
    return y, padded[:, length:]
