"""A tiny model of every kind, and what tests of editing ask of it."""

from functools import cache

import jax
import numpy as np

from tests.sampling.test_model import tiny_model
from tests.sampling.test_text_policies import three_prompts, tiny_text_model

KINDS = ("VAR", "M-VAR", "Infinity")


@cache
def model_of(kind):
    if kind == "Infinity":
        return tiny_text_model()
    return tiny_model(("history",) if kind == "VAR" else ("scale+ssm",))


def asked_of(kind, rows=(0, 1)):
    """Two conditions, or those of other rows: classes, or features of texts."""
    return three_prompts().rows(np.array(rows)) if kind == "Infinity" else list(rows)


def two_images():
    return np.asarray(jax.random.uniform(jax.random.key(3), (2, 8, 12, 3), minval=-1))


def assert_same(tokens, others):
    for one, other in zip(tokens, others, strict=True):
        np.testing.assert_array_equal(one, other)
