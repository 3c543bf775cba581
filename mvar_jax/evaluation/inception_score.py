"""The Inception Score: how sure a classifier is of every image, and how varied they are."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mvar_jax.array_types import Float, HostArray
from mvar_jax.checks import check

SPLITS = 10


def inception_score(
    logits: Float[HostArray, "batch classes"], splits: int = SPLITS
) -> tuple[float, float]:
    """The mean score of consecutive splits, at least 1, and its standard deviation over them.

    exp of the mean KL(p(y|x) || p(y)) within a split, in float64 (Salimans et al., arXiv
    1606.03498). Images i N / splits to (i + 1) N / splits are a split: of classes in order the
    score is lower than of shuffled ones. Raises ValueError for fewer images than splits.
    """
    count = len(logits)
    check(
        count >= splits,
        f"evaluation: got {count} images, expected at least one in each of {splits} splits of the "
        "Inception Score; draw more.",
    )
    scores = split_scores(logits, [i * count // splits for i in range(splits + 1)])
    return float(np.mean(scores)), float(np.std(scores))


def split_scores(logits: Float[HostArray, "batch classes"], bounds: Sequence[int]) -> list[float]:
    """The score of the images between every two neighbouring bounds."""
    return [_score(np.asarray(logits[first:end])) for first, end in pairwise(bounds)]


def _score(logits: np.ndarray) -> float:
    # In logarithms, because a probability that is rounded to 0 has none.
    rows = logits.astype(np.float64)
    rows -= _log_sum_exp(rows, axis=1)
    marginal = _log_sum_exp(rows, axis=0) - np.log(len(rows))
    return float(np.exp(np.mean(np.sum(np.exp(rows) * (rows - marginal), axis=1))))


def _log_sum_exp(values: np.ndarray, axis: int) -> np.ndarray:
    """The logarithm of the sum along an axis, which is kept with length 1."""
    largest = values.max(axis=axis, keepdims=True)
    return largest + np.log(np.exp(values - largest).sum(axis=axis, keepdims=True))
