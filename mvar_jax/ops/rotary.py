"""Rotary positions of tokens on a two-dimensional grid (Infinity, arXiv 2412.04431)."""

from functools import cache
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float

BASE = 10000.0
Angles: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Cosines and sines of every token's angles, float32 `[n, dim / 2]`."""


def rotate(
    x: Float[Array, "batch heads n dim"], angles: Angles
) -> Float[Array, "batch heads n dim"]:
    """Rotates each pair of neighbouring channels by its token's angle (`rotary_angles`).

    Computed in at least float32; the dtype is kept.
    """
    cos, sin = angles
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    even, odd = wide[..., 0::2], wide[..., 1::2]
    turned = jnp.stack([cos * even - sin * odd, sin * even + cos * odd], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)


@cache
def rotary_angles(sizes: tuple[tuple[int, int], ...], grid: tuple[int, int], dim: int) -> Angles:
    """The angles of all scales' tokens, `[total, dim / 2]`.

    A scale of `sizes` (height, width) is laid over the `grid`: token (i, j) has the coordinates
    `grid_coordinates`. Half of the angles are the row times frequencies 10000^(-4 k / dim), for k
    from 0 to dim / 4 - 1, the other half the column times these. `dim` is a multiple of 4.
    """
    frequencies = BASE ** (-np.arange(dim // 4) / (dim // 4))
    rows, columns = grid_coordinates(sizes, grid).T
    angles = np.concatenate([np.outer(rows, frequencies), np.outer(columns, frequencies)], axis=1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def grid_coordinates(sizes: tuple[tuple[int, int], ...], grid: tuple[int, int]) -> np.ndarray:
    """Row and column on the grid of all scales' tokens, int64 `[total, 2]`.

    Row i of a scale of height h is at i * grid height / h, rounded, to the even number on a tie;
    columns alike. The ratio is exact: ties are frequent, and rounding them otherwise moves tokens.
    """
    scales = []
    for height, width in sizes:
        rows, columns = _spread(height, grid[0]), _spread(width, grid[1])
        scales.append(np.stack([np.repeat(rows, width), np.tile(columns, height)], axis=1))
    return np.concatenate(scales)


def _spread(count: int, extent: int) -> np.ndarray:
    """The coordinates of `count` tokens that are spread over `extent` cells."""
    whole, rest = np.divmod(np.arange(count) * extent, count)
    above = (2 * rest > count) | ((2 * rest == count) & (whole % 2 == 1))
    return whole + above
