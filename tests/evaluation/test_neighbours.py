"""Precision and recall where they can be seen."""

import numpy as np
import pytest

from mvar_jax.evaluation.neighbours import ball_radii, inside, precision_recall


def some(count, seed=0, dimensions=8):
    return np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)


def test_radii_and_the_edge_of_a_ball():
    points = np.array([[0.0], [1.0], [3.0], [7.0]])
    np.testing.assert_allclose(ball_radii(points, 1), [1, 1, 2, 4])
    np.testing.assert_allclose(ball_radii(points, 3), [7, 6, 4, 7])
    asked = np.array([[-1.0], [-1.5], [3.0], [11.0], [11.5]])
    found = inside(asked, points, np.array([1.0, 1, 2, 4]))
    assert found.tolist() == [True, False, True, True, False]


def test_a_set_has_all_of_itself_and_nothing_far_away():
    points = some(2500, dimensions=2)
    assert precision_recall(points, points) == (1, 1)
    assert precision_recall(points, points + 100) == (0, 0)


def test_few_modes_are_precise_but_recall_little():
    narrow, wide = some(200) * 0.1, some(200, seed=1)
    precision, recall = precision_recall(narrow, wide)
    assert precision > 0.99 and recall < 0.1
    assert precision_recall(wide, narrow) == (recall, precision)


def test_copies_of_a_point_are_at_no_distance_and_inside():
    copies = np.repeat(some(5) * 100, 5, axis=0)
    np.testing.assert_array_equal(ball_radii(copies, 3), 0)
    assert precision_recall(copies[:7], copies)[0] == 1
    assert precision_recall(copies[:7] + 1e-3, copies)[0] == 0


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="got 3 images, expected more than 3"):
        precision_recall(some(9), some(3))
