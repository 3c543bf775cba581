"""Trunks that are conditioned on texts: their two forms agree, and texts matter as they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.config import ModelConfig, SSMConfig, TextConfig, infinity_schedule
from mvar_jax.models import Trunk
from mvar_jax.models.context import ScaleContext
from mvar_jax.scales import ScaleSchedule
from mvar_jax.text.features import TextFeatures, token_mask
from tests.models.test_trunk import decode, random_params
from tests.ops.agreement import runs_kernels

SCHEDULE = ScaleSchedule(((1, 1), (2, 3), (3, 4)))
OTHER = ScaleSchedule(((1, 1), (3, 2), (5, 2)))
TEXT = TextConfig(channels=12, max_length=7)
PATTERNS = [("history+text",), ("scale+ssm+text",), ("scale+ssm", "history+text")]


def tiny(pattern, **changes):
    ssm = SSMConfig(state_size=8, head_dim=8, chunk=5)
    sizes = {"depth": 2, "width": 16, "heads": 2, "ssm": ssm, "levels": 4}
    config = ModelConfig(
        condition="text", text=TEXT, pattern=pattern, positions="rotary", **sizes | changes
    )
    return Trunk(config, SCHEDULE, 6, 3)


def texts(lengths=(5, 2), length=6, seed=0):
    rng = np.random.default_rng(seed)
    shape = (len(lengths), length, TEXT.channels)
    mask = token_mask(lengths, length)
    features = rng.standard_normal(shape).astype(np.float32) * mask[..., None]
    return TextFeatures(jnp.asarray(features), jnp.asarray(mask))


def inputs_of(schedule, batch=2):
    shape = (batch, schedule.total - schedule.lengths[0], 3)
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape), jnp.float32)


def logits(trunk, condition, schedule=SCHEDULE, keys=None):
    inputs = inputs_of(schedule, condition.mask.shape[0])

    def run(params):
        return trunk.apply({"params": params}, condition, inputs, keys, schedule=schedule)

    return jax.jit(run)(random_params(trunk))


@pytest.mark.parametrize(
    ("pattern", "schedule"),
    [
        *((pattern, SCHEDULE) for pattern in PATTERNS),
        (PATTERNS[0], OTHER),
        *(pytest.param(pattern, OTHER, marks=pytest.mark.slow) for pattern in PATTERNS[1:]),
    ],
    ids=str,
)
def test_scale_by_scale_equals_teacher_forced(pattern, schedule):
    shared = len(pattern) == 1
    trunk = tiny(pattern, shared_modulation=shared)
    params, condition, inputs = random_params(trunk), texts(), inputs_of(schedule)
    expected = logits(trunk, condition, schedule)
    run = jax.jit(lambda params: decode(trunk, params, condition, inputs, schedule)[0])
    largest = float(jnp.abs(expected).max())
    np.testing.assert_allclose(run(params), expected, rtol=0, atol=2e-5 * largest)


def test_kernels_for_gpus_change_no_number():
    """Teacher-forced and scale by scale, over the history and over texts."""
    condition, inputs, results = texts(), inputs_of(SCHEDULE), []
    for kernels in ("xla", "pallas_gpu"):
        trunk = tiny(("history+text",), kernels=kernels, width=32)
        params = random_params(trunk)
        results.append(logits(trunk, condition))
        run = jax.jit(lambda params, trunk=trunk: decode(trunk, params, condition, inputs)[0])
        assert runs_kernels(run, params) == (kernels == "pallas_gpu")
        results.append(run(params))
    largest = float(jnp.abs(results[0]).max())
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=0, atol=2e-5 * largest)


def test_padding_and_other_texts_change_nothing():
    trunk = tiny(("history+text",))
    alone = texts((5, 2)).padded(5)
    expected = logits(trunk, alone)
    np.testing.assert_allclose(logits(trunk, alone.padded(7)), expected, rtol=1e-5, atol=1e-5)
    first = TextFeatures(jnp.asarray(alone.features).at[1].set(3.0), alone.mask)
    np.testing.assert_allclose(logits(trunk, first)[0], expected[0], rtol=1e-5, atol=1e-5)
    assert not np.allclose(logits(trunk, first)[1], expected[1], atol=1e-2)


def test_null_texts_are_as_long_and_all_the_same():
    trunk = tiny(("history+text",))
    bound = trunk.bind({"params": random_params(trunk)})
    one, other = (bound.null(texts(seed=seed)) for seed in (0, 1))
    np.testing.assert_array_equal(one.mask, texts().mask)
    np.testing.assert_array_equal(one.features, other.features)
    with pytest.raises(ValueError, match="at most 7"):
        bound.null(texts((8, 2), 8))
    with pytest.raises(ValueError, match="12"):
        bound.null(TextFeatures(jnp.zeros((1, 3, 5)), jnp.ones((1, 3), bool)))


def test_training_drops_texts():
    trunk = tiny(("history+text",), class_drop_rate=0.999)
    keys = jax.random.split(jax.random.key(0), 2)
    dropped = logits(trunk, texts(seed=0), keys=keys)
    np.testing.assert_allclose(dropped, logits(trunk, texts(seed=1), keys=keys), atol=1e-5)


def test_schedules_that_do_not_fit():
    trunk = tiny(("history+text",))
    with pytest.raises(ValueError, match="levels for 4 scales"):
        logits(trunk, texts(), ScaleSchedule.squares(1, 2, 3, 4, 5))
    with pytest.raises(ValueError, match="starts with 1 tokens"):
        logits(trunk, texts(), ScaleSchedule.squares(2, 3))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"condition": "class"}, "cross-attention needs"),
        ({"positions": "rotary", "qk_norm": False}, "qk_norm"),
        ({"text": TextConfig(channels=384), "width": 16}, "pool"),
        ({"width": 16, "heads": 8, "positions": "rotary"}, "multiple of 4"),
        ({"pattern": ("history+text+ssm",)}, "model.pattern"),
    ],
)
def test_configs_that_cannot_be(changes, message):
    sizes = {"condition": "text", "pattern": ("history+text",), "width": 16, "heads": 2}
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{**sizes, "depth": 2, **changes})


def test_a_budget_of_pixels_goes_on_with_the_positions_of_another():
    """Published scales lie on the grid of the largest budget, whatever the budget."""
    few, more = infinity_schedule("1.5", "0.06M"), infinity_schedule("1.5", "0.25M")
    for own, longer in zip(ScaleContext(few).angles(8), ScaleContext(more).angles(8)):
        np.testing.assert_array_equal(own, longer[: few.total])
