"""AMS-KV keeps the first scales and the latest, and more of them in demanding layers."""

from dataclasses import replace

import numpy as np
import pytest

from mvar_jax.cache import AttentionShape, prepare_compression
from mvar_jax.evaluation.made_up import made_up_profile
from mvar_jax.scales import ScaleSchedule

SCHEDULE, SHAPE = ScaleSchedule.squares(1, 2, 3, 4, 5, 7), AttentionShape(3, 2)


def planned(similarity, **arguments):
    """The lengths [layers, scales] of a plan, by the mean similarity of each layer's keys."""
    profile = made_up_profile(SCHEDULE, SHAPE)
    values = np.repeat(np.array(similarity, np.float32)[:, None], len(SCHEDULE), axis=1)
    values[:, 0] = 0  # the first scale has none before it
    profile = replace(profile, key_similarity=values)
    compression = prepare_compression("ams_kv", SCHEDULE, SHAPE, profile=profile, **arguments)
    return np.array([group.keep for (group,) in compression.plan.layers])


def test_demanding_layers_get_more():
    lengths = planned([0.9, 0.1, 0.8], budget=20)
    np.testing.assert_array_equal(lengths[:, 4], [15, 30, 15])
    assert planned([0.9, 0.1, 0.8], budget=20, demanding_weight=3.0)[1, 4] == 36
    np.testing.assert_array_equal(
        planned([0.9, 0.1, 0.8], budget=20, threshold=0.85)[:, 4], [12, 24, 24]
    )


def test_alike_layers_get_the_same():
    for similarity in (0.9, 0.1):
        np.testing.assert_array_equal(planned([similarity] * 3, budget=20)[:, 3:5], 20)


def test_a_profile_of_an_earlier_version_is_not_enough():
    profile = replace(made_up_profile(SCHEDULE, SHAPE), key_similarity=None)
    with pytest.raises(ValueError, match=r"the profile has no key_similarity; make one.*calibrate"):
        prepare_compression("ams_kv", SCHEDULE, SHAPE, budget=20, profile=profile)
    prepare_compression("hack", SCHEDULE, SHAPE, budget=20, profile=profile)
