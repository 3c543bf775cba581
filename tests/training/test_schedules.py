"""The schedules of learning rate and weight decay, against the original ones."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvar_jax.config import OptimizerConfig
from mvar_jax.config.training import SCHEDULES
from mvar_jax.training.schedules import learning_rate_schedule, weight_decay_schedule
from tests.reference import GOLDEN

RUNS = json.loads((GOLDEN / "schedules.json").read_text())


def config_of(run):
    return OptimizerConfig(
        learning_rate=run["peak"],
        schedule=run["schedule"],
        warmup_fraction=run["warmup_epochs"] / run["epochs"],
        warmup_start=run["warmup_start"],
        final_fraction=run["final_fraction"],
        weight_decay=run["weight_decay"],
        final_weight_decay=run["final_weight_decay"],
    )


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run['name']}_{run['schedule']}")
def test_schedules_are_the_original_ones_to_float32_rounding(run):
    steps, rates, decays = np.array(run["rows"]).T
    total = run["total_steps"]
    rate = jax.jit(jax.vmap(learning_rate_schedule(config_of(run), total, batch_size=256)))
    decay = jax.jit(jax.vmap(weight_decay_schedule(config_of(run), total)))
    steps = steps.astype(np.int32)
    assert rate(steps).dtype == np.float32
    np.testing.assert_allclose(rate(steps), rates, rtol=5e-7)
    np.testing.assert_allclose(decay(steps), decays, rtol=5e-7, atol=1e-12)


def test_base_rate_is_per_256_images():
    config = OptimizerConfig(learning_rate=1e-4, schedule="constant", warmup_fraction=0.0)
    assert learning_rate_schedule(config, 10, batch_size=768)(5) == pytest.approx(3e-4)


def test_constant_stays_at_the_peak_after_warmup():
    config = OptimizerConfig(schedule="constant", warmup_fraction=0.1, warmup_start=0.5)
    schedule = learning_rate_schedule(config, 100, batch_size=256)
    rates = np.array([schedule(step) for step in (0, 5, 10, 50, 99)])
    np.testing.assert_allclose(rates, np.array([0.5, 0.75, 1, 1, 1]) * config.learning_rate)


@given(
    name=st.sampled_from(SCHEDULES),
    total=st.integers(1, 60),
    warmup=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
)
def test_rates_rise_then_fall_between_their_bounds(name, total, warmup):
    config = OptimizerConfig(learning_rate=1.0, schedule=name, warmup_fraction=warmup)
    schedule = learning_rate_schedule(config, total, batch_size=256)
    rates = np.array([schedule(step) for step in range(total)])
    top = rates.argmax()
    assert np.isfinite(rates).all()
    assert rates.max() <= 1 and rates.min() >= min(config.warmup_start, config.final_fraction)
    assert (np.diff(rates[: top + 1]) >= 0).all() and (np.diff(rates[top:]) <= 0).all()
    assert schedule(total + 100) == rates[-1]


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="total_steps: got 0"):
        learning_rate_schedule(OptimizerConfig(), 0, 256)
    with pytest.raises(ValueError, match="total_steps: got 0"):
        weight_decay_schedule(OptimizerConfig(), 0)
