"""The outlines of ten objects, as signed distances in the plane.

Each outline is a function of coordinates in which the object has a radius of about 1 and its
centre at the origin; it is negative inside, and inside it is the distance to the edge. The
formulas are the usual ones of constructive geometry: folds of the plane along its symmetries,
unions as minima, cuts as maxima.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

Plane = Float32[np.ndarray, "height width_px"]
Outline = Callable[[Plane, Plane], Plane]


def ball(x: Plane, y: Plane) -> Plane:
    """A disc."""
    return np.hypot(x, y) - 0.82


def box(x: Plane, y: Plane) -> Plane:
    """A square."""
    return np.maximum(np.abs(x), np.abs(y)) - 0.72


def crescent(x: Plane, y: Plane) -> Plane:
    """A disc without a smaller one beside its centre."""
    large, small, apart = 0.95, 0.74, 0.48
    tip_x = (large**2 - small**2 + apart**2) / (2 * apart)
    tip_y = (large**2 - tip_x**2) ** 0.5
    y = np.abs(y)
    tips = np.hypot(x - np.float32(tip_x), y - np.float32(tip_y))
    sides = np.maximum(np.hypot(x, y) - large, small - np.hypot(x - np.float32(apart), y))
    nearest_is_tip = x * tip_y - y * tip_x > apart * np.maximum(tip_y - y, 0)
    return np.where(nearest_is_tip, tips, sides)


def cross(x: Plane, y: Plane) -> Plane:
    """Two bars over one another."""
    long, short = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
    return np.maximum(long - 0.95, short - 0.3)


def gear(x: Plane, y: Plane) -> Plane:
    """A wheel with six teeth and a hole."""
    radius = np.hypot(x, y)
    along, across = _folded(x, y, 6)
    tooth = np.maximum(along - 0.98, across - 0.23)
    return np.maximum(np.minimum(radius - 0.72, tooth), 0.27 - radius)


def heart(x: Plane, y: Plane) -> Plane:
    """A heart, its tip at the bottom."""
    x, y = np.abs(x) / 1.6, 0.55 - y / 1.6
    lobe = np.hypot(x - 0.25, y - 0.75) - np.float32(0.125**0.5)
    middle = np.maximum(x + y, 0) / 2
    squared = np.minimum(x**2 + (y - 1) ** 2, (x - middle) ** 2 + (y - middle) ** 2)
    return 1.6 * np.where(x + y > 1, lobe, np.sqrt(squared) * np.sign(x - y))


def pill(x: Plane, y: Plane) -> Plane:
    """A rod with round ends."""
    return np.hypot(np.maximum(np.abs(x) - 0.62, 0), y) - 0.36


def pyramid(x: Plane, y: Plane) -> Plane:
    """A triangle with equal sides, a point up."""
    along, _ = _folded(y, x, 3)
    return along - 0.5


def ring(x: Plane, y: Plane) -> Plane:
    """A disc with a large hole."""
    return np.abs(np.hypot(x, y) - 0.66) - 0.25


def star(x: Plane, y: Plane) -> Plane:
    """A star with five points, one up."""
    along, across = _folded(-y, x, 5)
    inner = 0.45 * np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)], np.float32)
    edge = inner - np.array([1, 0], np.float32)
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return (along - 1) * normal[0] + across * normal[1]


OUTLINES: dict[str, Outline] = {
    outline.__name__: outline
    for outline in (ball, box, crescent, cross, gear, heart, pill, pyramid, ring, star)
}


def _folded(x: Plane, y: Plane, sectors: int) -> tuple[Plane, Plane]:
    """Coordinates along and across the middle of a sector, all sectors folded into half of one."""
    sector = np.float32(2 * np.pi / sectors)
    angle = np.arctan2(y, x)
    angle = np.abs(angle - sector * np.round(angle / sector))
    radius = np.hypot(x, y)
    return radius * np.cos(angle), radius * np.sin(angle)
