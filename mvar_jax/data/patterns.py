"""Patterns that cover a surface: values from 0 to 1 over the plane, edges smoothed over a pixel."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

Plane = Float32[np.ndarray, "height width_px"]
# Coordinates in periods of the pattern, and the size of a pixel in periods.
Pattern = Callable[[Plane, Plane, float], Plane]


def plain(x: Plane, y: Plane, pixel: float) -> Plane:
    """Nothing."""
    return np.zeros_like(x)


def stripes(x: Plane, y: Plane, pixel: float) -> Plane:
    """Bars of half a period."""
    return (_square_wave(x, pixel) + 1) / 2


def checks(x: Plane, y: Plane, pixel: float) -> Plane:
    """Squares of half a period, like a chessboard."""
    return (_square_wave(x, pixel) * _square_wave(y, pixel) + 1) / 2


def dots(x: Plane, y: Plane, pixel: float) -> Plane:
    """A round dot in every square of one period."""
    distance = np.hypot(x - np.round(x), y - np.round(y))
    return np.clip((0.3 - distance) / np.float32(pixel) + 0.5, 0, 1)


PATTERNS: dict[str, Pattern] = {
    pattern.__name__: pattern for pattern in (plain, stripes, checks, dots)
}


def _square_wave(x: Plane, pixel: float) -> Plane:
    """-1 and 1 in turn, half a period each, the change spread over one pixel."""
    distance = 0.25 - np.abs(x - np.floor(x) - 0.5)  # to the next change, positive in the middle
    return np.clip(distance * np.float32(2 / pixel), -1, 1)
