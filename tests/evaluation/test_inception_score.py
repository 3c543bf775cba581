"""The Inception Score of logits whose score is known."""

import numpy as np
import pytest

from mvar_jax.evaluation.inception_score import inception_score


def test_sure_and_evenly_spread_predictions_score_the_number_of_classes():
    logits = np.tile(1e4 * np.eye(5, dtype=np.float32), (4, 1))  # probabilities of exactly 0
    assert inception_score(logits, 1) == pytest.approx((5, 0))
    assert inception_score(logits, 4) == pytest.approx((5, 0))


def test_equal_predictions_score_one():
    assert inception_score(np.ones((20, 7), np.float32)) == pytest.approx((1, 0))


def test_classes_in_order_score_less_in_splits():
    logits = 1e4 * np.eye(4, dtype=np.float32)[np.repeat(np.arange(4), 3)]
    assert inception_score(logits, 1)[0] == pytest.approx(4)
    assert inception_score(logits, 4) == pytest.approx((1, 0))


def test_fewer_images_than_splits_are_refused():
    with pytest.raises(ValueError, match="got 9 images, expected at least one in each of 10"):
        inception_score(np.zeros((9, 3), np.float32))
