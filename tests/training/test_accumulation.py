"""Gradients in parts are those of the whole batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.config import Config, TrainingConfig
from mvar_jax.training.accumulation import accumulated_gradients
from mvar_jax.training.step import make_trunk_step
from tests.training.tiny import (
    BATCH,
    CONFIG,
    TOKENIZER,
    TRUNK,
    batch,
    frozen,
    optimizer,
    trunk_state,
    trunk_step,
)


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_any_number_of_parts_gives_the_whole(parts):
    generator = np.random.default_rng(0)
    rows = {"x": jnp.asarray(generator.normal(size=(6, 3))), "y": jnp.arange(6.0)}
    params = {"head": {"kernel": jnp.asarray(generator.normal(size=3))}}

    def loss(params, rows):
        errors = rows["x"] @ params["head"]["kernel"] - rows["y"]
        return jnp.mean(errors**2), {"loss": jnp.mean(errors**2), "error": jnp.mean(errors)}

    gradients, metrics = jax.jit(accumulated_gradients(loss, rows, parts))(params)
    expected, expected_metrics = jax.grad(loss, has_aux=True)(params, rows)
    np.testing.assert_allclose(gradients["head"]["kernel"], expected["head"]["kernel"], rtol=1e-5)
    for name, value in expected_metrics.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-5)


def test_the_trunk_drops_the_same_classes_and_paths_in_parts():
    config = dataclasses.replace(CONFIG.training, accumulate=BATCH // 2)
    in_parts = make_trunk_step(TRUNK, TOKENIZER, optimizer(), config=config, seed=7)
    whole, split = trunk_state(), trunk_state()
    for _ in range(3):
        whole, metrics = trunk_step()(whole, batch(), frozen=frozen())
        split, own = in_parts(split, batch(), frozen=frozen())
        for name in ("loss", "accuracy", "gradient_norm"):
            assert float(own[name]) == pytest.approx(float(metrics[name]), rel=1e-4), name


def test_parts_must_divide_the_batch():
    with pytest.raises(ValueError, match=r"training\.accumulate: got 3, expected a divisor"):
        Config(batch_size=8, training=TrainingConfig(accumulate=3))
