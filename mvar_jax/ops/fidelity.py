"""How close images are to other images."""

import jax.numpy as jnp

from mvar_jax.typing import Array, Float


def psnr(
    images: Float[Array, "batch height width channels"],
    others: Float[Array, "batch height width channels"],
) -> Float[Array, "batch"]:
    """Peak signal-to-noise ratio of every image in dB, for values in [-1, 1]: infinite if equal.

    10 log10(2^2 / mean squared difference), computed in float32.
    """
    difference = images.astype(jnp.float32) - others.astype(jnp.float32)
    error = jnp.mean(difference**2, axis=(1, 2, 3))
    return 10 * jnp.log10(4 / error)
