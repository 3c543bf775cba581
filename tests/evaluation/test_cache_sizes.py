"""Bytes of the released models' caches, from arrays that are never allocated."""

import jax.numpy as jnp
import pytest

from mvar_jax.cache import AttentionShape, prepare_compression
from mvar_jax.config import infinity_schedule
from mvar_jax.evaluation.cache_sizes import allocated_bytes, cases
from mvar_jax.evaluation.made_up import made_up_profile
from mvar_jax.scales import ScaleSchedule

SCHEDULE, SHAPE, DIM = ScaleSchedule.squares(1, 2, 3, 5), AttentionShape(2, 3), 4
RELEASED = {
    "2b": (AttentionShape(32, 16), 3900, 38550),
    "8b": (AttentionShape(40, 28), 8531, 84328),
}


@pytest.mark.parametrize("name", ["full", "full+int8", "hack", "h2o"])
def test_allocated_bytes_are_those_of_the_plan(name):
    ratio = {} if name.startswith("full") else {"ratio": 0.7}
    profile = made_up_profile(SCHEDULE, SHAPE)
    compression = prepare_compression(name, SCHEDULE, SHAPE, profile=profile, **ratio)
    dtype = jnp.dtype("bfloat16")
    assert allocated_bytes(compression, 6, DIM, dtype) == compression.bytes(6, DIM, dtype)


@pytest.mark.parametrize("model", RELEASED)
def test_the_released_budgets_give_the_published_sizes(model):
    """In MiB for 8 images with guidance, with float32 keys and 16-bit values of 128 channels."""
    shape, published, full = RELEASED[model]
    schedule = infinity_schedule("1", "1M")
    cut = prepare_compression("scalekv", schedule, shape, budgets=f"infinity-{model}")
    whole = prepare_compression("full", schedule, shape)
    for compression, expected in ((cut, published), (whole, full)):
        assert max(compression.plan.kept) * 16 * 128 * 6 / 2**20 == pytest.approx(expected, abs=1)
    for kept in cut.plan.kept[7:-1]:
        assert kept / (shape.layers * shape.heads) == pytest.approx(650, abs=0.5)


@pytest.mark.parametrize("model", RELEASED)
def test_every_case_can_be_planned(model):
    shape, schedule = RELEASED[model][0], infinity_schedule("1", "1M")
    profile = made_up_profile(schedule, shape)
    whole = prepare_compression("full", schedule, shape)
    for case in cases(model):
        cut = prepare_compression(case.policy, schedule, shape, profile=profile, **case.settings)
        dtype = jnp.dtype("bfloat16")
        assert cut.policy.name == "full" or max(cut.bytes(2, 128, dtype)) < max(
            whole.bytes(2, 128, dtype)
        )
