"""The Fréchet distance between two sets of features."""

import numpy as np

from mvar_jax.array_types import Float, HostArray
from mvar_jax.checks import check

RIDGE = 1e-6


def frechet_distance(
    features_a: Float[HostArray, "batch features"],
    features_b: Float[HostArray, "references features"],
) -> float:
    """The squared 2-Wasserstein distance between Gaussians fitted to two sets of features.

    |mean_a - mean_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2) in float64, the distance of FID
    (Heusel et al., arXiv 1706.08500, equation 6). A and B are the unbiased covariances, both
    with `RIDGE` times their average variance added to the diagonal, so that features which do
    not vary keep the roots real. In squared units of the features. It is biased upwards for
    small sets: compare only distances between equally many examples.

    Raises ValueError for fewer than two examples, NaN or inf, or sets with different numbers of
    features.
    """
    sets = [_checked(features_a), _checked(features_b)]
    counts = [features.shape[1] for features in sets]
    check(
        counts[0] == counts[1],
        f"evaluation: got {counts[0]} and {counts[1]} features, expected equally many of both "
        "sets; take them from the same classifier.",
    )
    difference = sets[0].mean(axis=0) - sets[1].mean(axis=0)
    covariances = _regularized([np.atleast_2d(np.cov(features.T)) for features in sets])
    roots = [_square_root(covariance) for covariance in covariances]
    # tr((A^1/2 B A^1/2)^1/2) is the sum of the singular values of A^1/2 B^1/2.
    shared = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    spread = sum(np.trace(covariance) for covariance in covariances) - 2 * shared
    return float(difference @ difference + spread)


def _checked(features: HostArray) -> np.ndarray:
    features = np.asarray(features, np.float64)
    check(
        len(features) >= 2,
        f"evaluation: got {len(features)} examples, expected at least 2 for a covariance.",
    )
    check(
        bool(np.isfinite(features).all()),
        "evaluation: got features with NaN or inf, expected finite numbers; check the images.",
    )
    return features


def _regularized(covariances: list[np.ndarray]) -> list[np.ndarray]:
    ridge = RIDGE * np.mean([np.diag(covariance).mean() for covariance in covariances])
    return [covariance + ridge * np.eye(len(covariance)) for covariance in covariances]


def _square_root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
