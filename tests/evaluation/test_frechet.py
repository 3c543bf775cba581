from functools import reduce

import numpy as np
import pytest

from mvar_jax.evaluation import frechet
from mvar_jax.evaluation.frechet import (
    Gaussian,
    Moments,
    frechet_distance,
    gaussian_distance,
)


def exactly(mean, covariance, count=50):
    """Points whose mean and unbiased covariance are the given ones."""
    points = np.random.default_rng(0).normal(size=(count, len(mean)))
    points -= points.mean(axis=0)
    points = np.linalg.solve(np.linalg.cholesky(np.cov(points.T)), points.T).T
    return points @ np.linalg.cholesky(covariance).T + mean


def some(count, seed, dimensions=6):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, dimensions)) @ generator.normal(size=[dimensions] * 2)


def test_gaussians_with_diagonal_covariances_have_a_closed_form():
    first = exactly([0.0, 1.0, 2.0], np.diag([1.0, 4.0, 9.0]))
    second = exactly([1.0, 1.0, 0.0], np.diag([4.0, 4.0, 1.0]), count=80)
    expected = 5 + (1 - 2) ** 2 + (2 - 2) ** 2 + (3 - 1) ** 2
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-11)


def test_gaussians_that_do_not_commute_have_a_closed_form_in_two_dimensions():
    a, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, -0.5], [-0.5, 2.0]])
    product = a @ b  # the trace of a 2x2 root: sqrt(trace + 2 sqrt(determinant))
    root_trace = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = np.trace(a) + np.trace(b) - 2 * root_trace
    distance = frechet_distance(exactly([0.0, 0.0], a), exactly([0.0, 0.0], b))
    assert distance == pytest.approx(expected, rel=1e-11)


def test_a_set_has_no_distance_to_itself_even_if_features_never_vary():
    features = some(40, 0)
    features[:, 2] = 0
    features[:, 3] = features[:, 1]
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-24)
    assert frechet_distance(features, features[::-1]) == pytest.approx(0, abs=1e-24)


def test_it_is_symmetric_and_positive():
    first, second = some(60, 1), some(30, 2)
    distance = frechet_distance(first, second)
    assert distance > 0.1
    assert frechet_distance(second, first) == pytest.approx(distance, rel=1e-12)


def test_turning_and_moving_both_sets_changes_nothing():
    first, second = some(60, 1), some(30, 2)
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))
    moved = frechet_distance(first @ turn + 5, second @ turn + 5)
    assert moved == pytest.approx(frechet_distance(first, second), rel=1e-9)


def test_moving_one_set_adds_the_squared_way():
    first = some(60, 1)
    assert frechet_distance(first, first + 2) == pytest.approx(6 * 4, rel=1e-9)


def test_fewer_examples_than_features_and_one_feature_work():
    assert np.isfinite(frechet_distance(some(4, 0, 30), some(5, 1, 30)))
    points = np.array([[0.0], [2.0]])
    expected = 4 + (18**0.5 - 2**0.5) ** 2
    assert frechet_distance(points, 3 * points) == pytest.approx(expected, rel=1e-11)


def test_float32_features_are_computed_in_float64():
    first, second = (some(60, seed).astype(np.float32) for seed in (1, 2))
    wide = frechet_distance(first.astype(np.float64), second.astype(np.float64))
    assert frechet_distance(first, second) == wide


def test_what_has_no_covariance_is_refused():
    features = some(10, 0)
    with pytest.raises(ValueError, match="1 examples, expected at least 2"):
        frechet_distance(features, features[:1])
    with pytest.raises(ValueError, match="NaN or inf"):
        frechet_distance(features, features * np.inf)
    with pytest.raises(ValueError, match="6 and 5 features"):
        _mismatched(features, features[:, :5])


def _mismatched(first, second):
    # Past the shape checks of the test run, which would refuse it first.
    return getattr(frechet_distance, "__wrapped__", frechet_distance)(first, second)


@pytest.mark.parametrize("sizes", [(50,), (1, 49), (3, 2, 20, 25), (24, 2, 24)])
@pytest.mark.parametrize("dimensions", [6, 70])
def test_parts_have_the_moments_of_the_whole(sizes, dimensions):
    features = some(50, 0, dimensions) + 1000
    parts = np.split(features, np.cumsum(sizes)[:-1])
    whole = reduce(Moments.merge, map(Moments.of, parts))
    assert whole.count == 50 and len(whole.root) <= 2 * dimensions
    np.testing.assert_allclose(whole.mean, features.mean(axis=0), rtol=1e-13)
    gaussian = whole.gaussian()
    assert len(gaussian.root) <= dimensions
    np.testing.assert_allclose(gaussian.covariance, np.cov(features.T), atol=1e-9)
    assert gaussian_distance(gaussian, Moments.of(features).gaussian()) < 1e-18


def test_statistics_give_what_features_give():
    first, second = some(60, 1), some(30, 2)
    one = Gaussian.from_covariance(first.mean(axis=0), np.cov(first.T))
    other = Moments.of(second).gaussian()
    distance = frechet_distance(first, second)
    assert gaussian_distance(one, other) == pytest.approx(distance, rel=1e-10)
    assert gaussian_distance(other, one) == pytest.approx(distance, rel=1e-10)


def test_a_small_distance_keeps_its_digits():
    """A difference of traces would leave none of them."""
    first = some(60, 1)
    assert frechet_distance(first, first * (1 + 1e-9)) == pytest.approx(
        1e-18 * (np.trace(np.cov(first.T)) + np.sum(first.mean(axis=0) ** 2)), rel=1e-4
    )


def test_examples_may_come_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(frechet, "BLOCK", 10)
    features, accumulator = some(47, 0), frechet.Accumulator()
    assert accumulator.is_empty
    for part in np.split(features, [3, 9, 20, 24]):
        accumulator.add(part)
    assert not accumulator.is_empty
    distance = gaussian_distance(accumulator.gaussian(), Moments.of(features).gaussian())
    assert distance < 1e-20
    with pytest.raises(ValueError, match="got no images, expected at least 2"):
        frechet.Accumulator().gaussian()
