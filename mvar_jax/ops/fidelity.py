"""How close images are to other images."""

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float


def psnr(
    images: Float[Array, "batch height width channels"],
    others: Float[Array, "batch height width channels"],
) -> Float[Array, "batch"]:
    """Peak signal-to-noise ratio of every image in dB, for values in [-1, 1]: infinite if equal.

    10 log10(2^2 / mean squared difference), in float32, or float64 where both are.
    """
    x, y = _wide(images, others)
    difference = x - y
    error = jnp.mean(difference**2, axis=(1, 2, 3))
    return 10 * jnp.log10(4 / error)


def ssim(
    images: Float[Array, "batch height width channels"],
    others: Float[Array, "batch height width channels"],
) -> Float[Array, "batch"]:
    """Structural similarity of every image, 1 if equal, for values in [-1, 1].

    Wang et al. 2004: a Gaussian window of 11 x 11 pixels (smaller where the image is) with sigma
    1.5, K1 = 0.01, K2 = 0.03, a range of 2, averaged over channels and all positions where the
    window fits. In float32, or float64 where both are. Local means enter it: published values are
    mostly of values in [0, 1], and those of images in [-1, 1] are lower; add 1 for the former.
    """
    return jnp.mean(ssim_map(images, others), axis=(1, 2, 3))


def ssim_map(
    images: Float[Array, "batch height width channels"],
    others: Float[Array, "batch height width channels"],
) -> Float[Array, "batch _ _ channels"]:
    """The similarity at every position where the window fits, of which `ssim` is the mean."""
    x, y = _wide(images, others)
    side = min(11, *x.shape[1:3])
    distance = jnp.arange(side, dtype=x.dtype) - (side - 1) / 2
    window = jnp.exp(-(distance**2) / (2 * 1.5**2))
    window /= jnp.sum(window)

    def smooth(maps):
        for axis in (1, 2):
            fits = maps.shape[axis] - side + 1
            shifted = [jax.lax.slice_in_dim(maps, i, i + fits, axis=axis) for i in range(side)]
            maps = sum(weight * part for weight, part in zip(window, shifted))
        return maps

    mean_x, mean_y = smooth(x), smooth(y)
    variance_x, variance_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    low, high = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    likeness = (2 * mean_x * mean_y + low) * (2 * covariance + high)
    return likeness / ((mean_x**2 + mean_y**2 + low) * (variance_x + variance_y + high))


def _wide(images: Array, others: Array) -> tuple[Array, Array]:
    """Both in the dtype that they are compared in."""
    dtype = jnp.promote_types(jnp.promote_types(images.dtype, others.dtype), jnp.float32)
    return images.astype(dtype), others.astype(dtype)
