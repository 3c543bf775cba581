"""Precision and recall of a set of features by balls around another set's.

Kynkäänniemi et al., arXiv 1904.06991: the features of a set fill the union of balls around them,
each of which reaches to the centre's k-th nearest neighbour in its set.
"""

from collections.abc import Iterator

import numpy as np

from mvar_jax.array_types import Bool, Float, HostArray

NEIGHBOURS = 3
ROWS = 1024  # of distances at a time
EQUAL = 1e-13  # of the squared lengths: a squared distance below it is rounding


def precision_recall(
    generated: Float[HostArray, "batch features"],
    real: Float[HostArray, "references features"],
    k: int = NEIGHBOURS,
) -> tuple[float, float]:
    """The share of generated features in the real ones' balls, and the other way round.

    In float64; both are from 0 to 1. Raises ValueError for sets of at most k.
    """
    precision = inside(generated, real, ball_radii(real, k)).mean()
    recall = inside(real, generated, ball_radii(generated, k)).mean()
    return float(precision), float(recall)


def ball_radii(
    points: Float[HostArray, "references features"], k: int
) -> Float[np.ndarray, "references"]:
    """The distance of every point to its k-th nearest other one; copies are at a distance of 0.

    Raises ValueError unless there are more than k points.
    """
    if len(points) <= k:
        raise ValueError(
            f"evaluation: got {len(points)} images, expected more than {k}, as balls reach to the "
            f"neighbour number {k}; draw more."
        )
    rows = [np.partition(squared, k, axis=1)[:, k] for squared in _distances(points, points)]
    return np.sqrt(np.concatenate(rows))


def inside(
    points: Float[HostArray, "batch features"],
    centres: Float[HostArray, "references features"],
    radii: Float[HostArray, "references"],
) -> Bool[np.ndarray, "batch"]:
    """Which points lie in a ball around any centre, or on its edge."""
    edges = np.asarray(radii) ** 2 * (1 + EQUAL)  # the root and its square do not round back
    rows = [(squared <= edges).any(axis=1) for squared in _distances(points, centres)]
    return np.concatenate(rows)


def _distances(points: HostArray, centres: HostArray) -> Iterator[np.ndarray]:
    """Squared distances of so many points at a time to all centres."""
    centres = np.asarray(centres, np.float64)
    lengths = np.sum(centres**2, axis=1)
    for first in range(0, len(points), ROWS):
        rows = np.asarray(points[first : first + ROWS], np.float64)
        both = np.sum(rows**2, axis=1)[:, None] + lengths
        squared = both - 2 * (rows @ centres.T)
        yield np.where(squared <= EQUAL * both, 0, squared)
