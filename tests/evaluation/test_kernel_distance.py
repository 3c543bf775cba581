"""The kernel distance by its definition."""

import numpy as np
import pytest

from mvar_jax.evaluation.kernel_distance import kernel_distance, subset_distances


def some(count, seed=0, dimensions=4):
    return np.random.default_rng(seed).normal(size=(count, dimensions))


def test_it_is_the_mean_over_pairs_of_different_examples():
    x, y = some(5), some(7, seed=1) + 1

    def mean(pairs):
        return np.mean([(a @ b / 4 + 1) ** 3 for a, b in pairs])

    def own(points):
        return mean((a, b) for i, a in enumerate(points) for j, b in enumerate(points) if i != j)

    expected = own(x) + own(y) - 2 * mean((a, b) for a in x for b in y)
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-12)
    assert kernel_distance(y, x) == pytest.approx(expected, rel=1e-12)


def test_alike_sets_are_at_no_distance_on_average():
    distances = [kernel_distance(some(50, i), some(50, 100 + i)) for i in range(40)]
    error = np.std(distances) / np.sqrt(40)
    assert abs(np.mean(distances)) < 3 * error and min(distances) < 0


def test_subsets_are_as_large_as_the_smaller_set_allows():
    x, y = some(30), some(12, seed=1)
    distances = subset_distances(x, y, subsets=3)
    assert len(set(distances)) == 3
    assert subset_distances(x, y, subsets=3) == distances
    with pytest.raises(ValueError, match="1 and 1 examples, expected at least 2"):
        subset_distances(x, y[:1], subsets=1)
