"""Images in [-1, 1] as pixels of 8 bits."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from mvar_jax.array_types import HostArray
from mvar_jax.checks import check


def to_uint8(images: HostArray, *, nan: float | None = None) -> UInt8[np.ndarray, "..."]:
    """Images, floats in [-1, 1], as bytes from 0 to 255, rounded; values beyond are clipped.

    The shape, of whatever axes, stays. NaN is taken for the value `nan`. Raises ValueError for NaN
    without one, and for whole numbers, such as pixels that are bytes already.
    """
    array = np.asarray(images)
    check(
        jnp.issubdtype(array.dtype, jnp.floating),
        f"images: got {array.dtype}, expected floats in [-1, 1]; of bytes, give x / 127.5 - 1.",
    )
    values = array.astype(np.float32)
    unknown = np.isnan(values)
    check(
        nan is not None or not unknown.any(),
        f"images: got NaN in {np.count_nonzero(unknown)} of {values.size} values, expected numbers "
        "in [-1, 1]; draw with other weights or settings.",
    )
    if nan is not None:
        values = np.where(unknown, np.float32(nan), values)
    return np.round(np.clip((values + 1) * 127.5, 0, 255)).astype(np.uint8)


def check_images(images: HostArray) -> None:
    """Raises ValueError unless the shape is [batch, height, width, 3]."""
    shape = np.shape(images)
    check(
        len(shape) == 4 and shape[-1] == 3,
        f"images: got the shape {shape}, expected (batch, height, width, 3); a single image is a "
        "batch of one, image[None].",
    )


def enlarge(
    pixels: UInt8[np.ndarray, "batch height width_px 3"], scale: int
) -> UInt8[np.ndarray, "batch tall wide 3"]:
    """Images whose pixels are drawn as `scale` x `scale` each."""
    return np.repeat(np.repeat(pixels, scale, axis=1), scale, axis=2)
