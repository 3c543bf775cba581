"""Images in [-1, 1] as pixels of 8 bits."""

import numpy as np
from jaxtyping import UInt8

from mvar_jax.array_types import Float, HostArray


def to_uint8(images: Float[HostArray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Images from [-1, 1] as bytes from 0 to 255, rounded; values beyond are clipped."""
    values = np.clip((np.asarray(images, np.float32) + 1) * 127.5, 0, 255)
    return np.round(values).astype(np.uint8)


def enlarge(
    pixels: UInt8[np.ndarray, "batch height width_px 3"], scale: int
) -> UInt8[np.ndarray, "batch tall wide 3"]:
    """Images whose pixels are drawn as `scale` x `scale` each."""
    return np.repeat(np.repeat(pixels, scale, axis=1), scale, axis=2)
