"""Histograms of colours: which hues an image shows, how vivid and how bright, anywhere in it."""

import numpy as np

from mvar_jax.array_types import Float, HostArray

HUES, SATURATIONS, VALUES = 24, 3, 3  # bins


def color_histograms(
    images: Float[HostArray, "batch height width_px 3"],
) -> Float[np.ndarray, "batch features"]:
    """Square roots of the shares of pixels, float64 [batch, 24 * 3 * 3], of images in [-1, 1].

    A pixel is counted by its hue, its saturation and its value (the HSV model). Features are scaled
    to a mean square of 1.
    """
    return np.stack([_histogram(image) for image in np.asarray(images, np.float32)])


def _histogram(image: np.ndarray) -> np.ndarray:
    pixels = np.clip((image.reshape(-1, 3) + 1) / 2, 0, 1)
    value, spread = pixels.max(axis=-1), np.ptp(pixels, axis=-1)
    red, green, blue = pixels.T
    sector = np.select(
        [spread == 0, value == red, value == green],
        [0.0, (green - blue), (blue - red) + 2 * spread],
        (red - green) + 4 * spread,
    )
    hue = sector / np.maximum(6 * spread, 1e-12) % 1
    saturation = spread / np.maximum(value, 1e-12)
    places = [
        np.minimum((share * bins).astype(int), bins - 1)
        for share, bins in ((hue, HUES), (saturation, SATURATIONS), (value, VALUES))
    ]
    bins = HUES * SATURATIONS * VALUES
    flat = np.ravel_multi_index(places, (HUES, SATURATIONS, VALUES))
    return np.sqrt(np.bincount(flat, minlength=bins) * bins / len(flat))
