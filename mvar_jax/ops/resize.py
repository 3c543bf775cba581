"""Resizing of feature maps by two small matmuls, with the same result on every device."""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float

CUBIC_SHARPNESS = -0.75  # the `a` of the cubic kernel; jax.image.resize has -0.5


def resize_area(
    maps: Float[Array, "batch h w channels"], size: tuple[int, int]
) -> Float[Array, "batch _ _ channels"]:
    """Averages a map down to `size` = (height, width) in tokens.

    This is adaptive average pooling: output row i is the mean of the input rows from
    floor(i h / out) to ceil((i + 1) h / out) - 1, so neighbours overlap when the sizes do not
    divide. The dtype is kept.
    """
    return _resize(maps, size, _area_matrix)


def resize_bicubic(
    maps: Float[Array, "batch h w channels"], size: tuple[int, int]
) -> Float[Array, "batch _ _ channels"]:
    """Interpolates a map up to `size` = (height, width) in tokens with the cubic kernel.

    Half-pixel centres, borders repeated, no antialiasing (Keys 1981, with a = -0.75). The dtype
    is kept.
    """
    return _resize(maps, size, _bicubic_matrix)


def resize_bilinear(
    maps: Float[Array, "batch h w channels"], size: tuple[int, int]
) -> Float[Array, "batch _ _ channels"]:
    """Samples a map at the centres of `size` = (height, width) cells, up or down.

    Half-pixel centres, borders repeated, no antialiasing: a smaller map is sampled between the two
    nearest pixels of each side, not averaged. The dtype is kept.
    """
    return _resize(maps, size, _bilinear_matrix)


def _resize(maps, size, matrix):
    _, height, width, _ = maps.shape
    out_height, out_width = size
    if (out_height, out_width) == (height, width):
        return maps
    rows = jnp.asarray(matrix(height, out_height), maps.dtype)
    columns = jnp.asarray(matrix(width, out_width), maps.dtype)
    highest = jax.lax.Precision.HIGHEST
    maps = jnp.einsum("oh,bhwc->bowc", rows, maps, precision=highest)
    return jnp.einsum("pw,bowc->bopc", columns, maps, precision=highest)


@cache
def _area_matrix(size: int, out_size: int) -> np.ndarray:
    """The averaging weights, float64 `[out_size, size]`; every row sums to 1."""
    out = np.arange(out_size)[:, None]
    first, end = out * size // out_size, -(-(out + 1) * size // out_size)
    covered = (np.arange(size) >= first) & (np.arange(size) < end)
    return covered / covered.sum(axis=1, keepdims=True)


@cache
def _bicubic_matrix(size: int, out_size: int) -> np.ndarray:
    """The weights of cubic interpolation, float64 `[out_size, size]`; every row sums to 1."""
    return _interpolation_matrix(size, out_size, _cubic_kernel, range(-1, 3))


@cache
def _bilinear_matrix(size: int, out_size: int) -> np.ndarray:
    """The weights of linear interpolation, float64 `[out_size, size]`; every row sums to 1."""
    return _interpolation_matrix(size, out_size, lambda distance: 1 - distance, range(2))


def _interpolation_matrix(
    size: int, out_size: int, kernel: Callable[[np.ndarray], np.ndarray], taps: range
) -> np.ndarray:
    """The kernel's weights of the pixels at `taps` from the one left of every centre."""
    centre = (np.arange(out_size) + 0.5) * size / out_size - 0.5
    base = np.floor(centre).astype(int)
    matrix = np.zeros((out_size, size))
    for tap in taps:
        column = np.clip(base + tap, 0, size - 1)
        np.add.at(matrix, (np.arange(out_size), column), kernel(np.abs(centre - base - tap)))
    return matrix


def _cubic_kernel(distance: np.ndarray) -> np.ndarray:
    a, d = CUBIC_SHARPNESS, distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
