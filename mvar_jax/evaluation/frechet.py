"""The Fréchet distance between two sets of features, exactly, in float64 on the host.

Of features of the Inception network of 2015 it is FID (Heusel et al., arXiv 1706.08500), of that
network's maps sFID (Nash et al., arXiv 2103.03841).

A covariance is kept as a root R, any matrix with R^T R = covariance, here made by QR
decompositions of the features themselves: nothing is squared, so that features which do not vary,
and fewer images than features, cost no digits.
"""

from dataclasses import dataclass

import numpy as np

from mvar_jax.array_types import Float, HostArray
from mvar_jax.checks import check

BLOCK = 4096  # examples that moments are made of at a time
ROUNDING = 1e-6  # of the largest eigenvalue: how far below 0 those of a covariance may be


@dataclass(frozen=True)
class Gaussian:
    """A mean, float64 [features], and a root of the covariance, float64 [any, features]."""

    mean: np.ndarray
    root: np.ndarray

    @classmethod
    def from_covariance(
        cls, mean: Float[HostArray, "features"], covariance: Float[HostArray, "features features"]
    ) -> "Gaussian":
        """Of statistics that others stored; eigenvalues that rounding made negative count as 0.

        Raises ValueError where they are more negative than rounding makes them.
        """
        values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
        check(
            bool(values[0] >= -ROUNDING * max(values[-1], 0)),
            f"the covariance's eigenvalues are from {values[0]:.3g} to "
            f"{values[-1]:.3g}, expected none below 0; compute it again.",
        )
        root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
        return cls(np.asarray(mean, np.float64), root)

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, float64 [features, features]."""
        return self.root.T @ self.root


@dataclass(frozen=True)
class Moments:
    """The mean and the scatter of some examples, in parts that merge: of batches, of hosts.

    `root.T @ root` is the sum over examples of (x - mean)(x - mean)^T.
    """

    count: int
    mean: np.ndarray  # float64 [features]
    root: np.ndarray  # float64 [up to 2 features, features]

    @classmethod
    def of(cls, features: Float[HostArray, "batch features"]) -> "Moments":
        """The moments of some examples."""
        features = np.asarray(features, np.float64)
        mean = features.mean(axis=0)
        return cls(len(features), mean, _short(features - mean))

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets together (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        way = other.mean - self.mean
        between = np.sqrt(self.count * other.count / count) * way
        mean = self.mean + way * (other.count / count)
        return Moments(count, mean, _short(np.vstack([self.root, other.root, between])))

    def gaussian(self) -> Gaussian:
        """The Gaussian that is fitted to them, with the unbiased covariance.

        Raises ValueError for fewer than two examples.
        """
        check(
            self.count >= 2,
            f"evaluation: got {self.count} examples, expected at least 2 for a covariance.",
        )
        root = self.root / np.sqrt(self.count - 1)
        return Gaussian(self.mean, _triangle(root) if len(root) > len(self.mean) else root)


class Accumulator:
    """The moments of examples that come a few at a time."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self._moments: Moments | None = None

    @property
    def is_empty(self) -> bool:
        """Whether none has come."""
        return self._moments is None and not self._rows

    def add(self, features: Float[HostArray, "batch features"]) -> None:
        """Takes some more; of many together moments are made at a time."""
        self._rows.append(np.asarray(features))
        if sum(map(len, self._rows)) >= BLOCK:
            self._merge()

    def gaussian(self) -> Gaussian:
        """The Gaussian that is fitted to all. Raises ValueError for fewer than two."""
        if self._rows:
            self._merge()
        check(self._moments is not None, "evaluation: got no images, expected at least 2.")
        assert self._moments is not None
        return self._moments.gaussian()

    def _merge(self) -> None:
        own = Moments.of(np.concatenate(self._rows))
        self._moments = own if self._moments is None else self._moments.merge(own)
        self._rows = []


def gaussian_distance(one: Gaussian, other: Gaussian) -> float:
    """The squared 2-Wasserstein distance, in squared units of the features; never negative.

    |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^1/2). The second term is the least |R_a - U R_b|^2 over
    all U with orthonormal columns (Bhatia, Jain and Lim, arXiv 1712.01504, theorem 1) and computed
    as such: no difference of large traces, hence 0 for equal Gaussians. Raises ValueError for
    different numbers of features.
    """
    counts = len(one.mean), len(other.mean)
    check(
        counts[0] == counts[1],
        f"evaluation: got {counts[0]} and {counts[1]} features, expected equally many of both "
        "sets; take them from the same network.",
    )
    low, high = sorted((one.root, other.root), key=len)
    left, _, right = np.linalg.svd(high @ low.T, full_matrices=False)
    way, spread = one.mean - other.mean, high - left @ (right @ low)
    return float(way @ way + np.sum(spread**2))


def frechet_distance(
    features_a: Float[HostArray, "batch features"],
    features_b: Float[HostArray, "references features"],
) -> float:
    """The squared 2-Wasserstein distance between Gaussians fitted to two sets of features.

    It is biased upwards for small sets: compare only distances between equally many examples.
    Raises ValueError for fewer than two examples, NaN or inf, or sets with different numbers of
    features.
    """
    one, other = (_checked(features) for features in (features_a, features_b))
    return gaussian_distance(Moments.of(one).gaussian(), Moments.of(other).gaussian())


def _checked(features: HostArray) -> np.ndarray:
    features = np.asarray(features, np.float64)
    check(
        bool(np.isfinite(features).all()),
        "evaluation: got features with NaN or inf, expected finite numbers; check the images.",
    )
    return features


def _short(root: np.ndarray) -> np.ndarray:
    """The root, or where it has many rows one of as many as columns: QR is dear, so seldom."""
    return _triangle(root) if len(root) > 2 * root.shape[1] else root


def _triangle(root: np.ndarray) -> np.ndarray:
    """A root of the same covariance with as many rows as columns."""
    return np.asarray(np.linalg.qr(root, "r"))
