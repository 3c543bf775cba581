"""Histograms of oriented gradients: the positions and orientations of an image's edges.

These features distinguish shapes of any colour (Dalal and Triggs, CVPR 2005). Here they ignore the
polarity of edges and use gradients at one scale.
"""

import numpy as np

from mvar_jax.array_types import Float, HostArray

GRID = 64  # gradients are computed at GRID x GRID points
BLUR = 2.2 / GRID  # standard deviation of the smoothing, as a share of the image's side
CELLS = 8  # along each side
ORIENTATIONS = 8
BATCH = 500


def gradient_histograms(
    images: Float[HostArray, "batch height width_px 3"],
) -> Float[np.ndarray, "batch features"]:
    """One histogram per cell, float32 [batch, CELLS * CELLS * ORIENTATIONS], of images in [-1, 1].

    Square roots of shares of the image's total gradient, so that contrast does not matter, scaled
    to a mean square of 1.
    """
    parts = [_histograms(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    return np.concatenate(parts)


def _histograms(images: HostArray) -> np.ndarray:
    images = np.moveaxis(np.asarray(images, np.float32), -1, 1)
    (smooth_down, slope_down), (smooth_right, slope_right) = map(_filters, images.shape[2:])
    down = slope_down @ images @ smooth_right.T
    right = smooth_down @ images @ slope_right.T
    strongest = (down**2 + right**2).argmax(axis=1, keepdims=True)
    down = np.take_along_axis(down, strongest, axis=1)[:, 0]
    right = np.take_along_axis(right, strongest, axis=1)[:, 0]
    votes = np.maximum(_along_orientations(down, right), 0)
    cell = GRID // CELLS
    cells = votes.reshape(len(images), CELLS, cell, CELLS, cell, ORIENTATIONS).sum(axis=(2, 4))
    cells = cells.reshape(len(images), -1)
    return np.sqrt(cells / (cells.mean(axis=1, keepdims=True) + np.float32(1e-9)))


def _along_orientations(down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A gradient's magnitude times the cosine of twice its angle to every orientation (last axis).

    Twice the angle, because edges of opposite polarity count as one orientation.
    """
    size = np.hypot(down, right) + np.float32(1e-12)
    doubled = np.stack([right * right - down * down, 2 * right * down], axis=-1) / size[..., None]
    angles = np.arange(ORIENTATIONS) * (2 * np.pi / ORIENTATIONS)
    return doubled @ np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def _filters(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices [GRID, side] that smooth, and that smooth and differentiate, along one side."""
    points, pixels = (np.arange(GRID) + 0.5) / GRID, (np.arange(side) + 0.5) / side
    offsets = pixels - points[:, None]
    width = max(BLUR, 0.5 / side)
    smooth = np.exp(-((offsets / width) ** 2) / 2)
    smooth /= smooth.sum(axis=1, keepdims=True)
    return smooth.astype(np.float32), np.gradient(smooth, axis=0).astype(np.float32)
