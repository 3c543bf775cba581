"""The kernel distance between two sets of features; of Inception features it is KID."""

import numpy as np

from mvar_jax.array_types import Float, HostArray
from mvar_jax.checks import check

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020


def kernel_distance(
    features_a: Float[HostArray, "batch features"],
    features_b: Float[HostArray, "references features"],
) -> float:
    """The unbiased squared maximum mean discrepancy; negative by chance where sets are alike.

    In float64, with the kernel (x . y / features + 1)^3 (Bińkowski et al., arXiv 1801.01401).
    Raises ValueError for fewer than two examples.
    """
    one, other = (np.asarray(features, np.float64) for features in (features_a, features_b))
    check(
        min(len(one), len(other)) >= 2,
        f"evaluation: got {len(one)} and {len(other)} examples, expected at least 2 of each.",
    )
    return _own_mean(one) + _own_mean(other) - 2 * float(_kernel(one, other).mean())


def subset_distances(
    features_a: Float[HostArray, "batch features"],
    features_b: Float[HostArray, "references features"],
    *,
    subsets: int = SUBSETS,
    size: int = SUBSET_SIZE,
) -> list[float]:
    """The distances between random subsets of both sets, as torch-fidelity draws them.

    Their mean is what is reported as KID. Subsets have at most as many examples as the smaller set.
    Raises ValueError as `kernel_distance` does.
    """
    size = min(size, len(features_a), len(features_b))
    generator = np.random.RandomState(SEED)
    distances = []
    for _ in range(subsets):
        first = generator.choice(len(features_a), size, replace=False)
        second = generator.choice(len(features_b), size, replace=False)
        distances.append(
            kernel_distance(np.asarray(features_a)[first], np.asarray(features_b)[second])
        )
    return distances


def _own_mean(features: np.ndarray) -> float:
    """The kernel's mean over all pairs of different examples."""
    kernel, count = _kernel(features, features), len(features)
    return float((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))


def _kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one @ other.T / one.shape[1] + 1) ** 3
