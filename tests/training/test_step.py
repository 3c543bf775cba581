"""Steps of the tokenizer and the trunk: what they learn, log and leave alone."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.models import build_trunk, example_inputs
from mvar_jax.models.conditioner import read_condition
from mvar_jax.tokenizers import build_tokenizer
from mvar_jax.training.losses import trunk_loss
from mvar_jax.training.placement import place
from mvar_jax.training.state import create_state
from mvar_jax.training.step import Frozen, make_trunk_step
from mvar_jax.training.tokenizer_step import make_tokenizer_step
from tests.training.tiny import (
    BITS,
    CONFIG,
    TOKENIZER,
    TRUNK,
    batch,
    frozen,
    optimizer,
    random_params,
    tokenizer_evaluation,
    tokenizer_params,
    tokenizer_state,
    tokenizer_step,
    trunk_evaluation,
    trunk_params,
    trunk_state,
    trunk_step,
)

METRICS = {
    f"{name}{part}"
    for name in ("loss", "accuracy")
    for part in ("", "_scale_1", "_scale_2", "_tail")
}
USAGE = {"usage_least"} | {
    f"{name}_scale_{scale}" for name in ("usage", "perplexity") for scale in (1, 2)
}
STEP = {"gradient_norm", "learning_rate", "skipped", "skipped_in_a_row"}


def test_trunk_learns_a_batch_and_reports_metrics():
    step, state, losses = trunk_step(), trunk_state(), []
    for _ in range(20):
        state, metrics = step(state, batch(), frozen=frozen())
        losses.append(float(metrics["loss"]))
    assert set(metrics) == METRICS | STEP
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    assert int(state.step) == 20
    assert float(metrics["learning_rate"]) == pytest.approx(0.1 * 4 / 256 * 0.1)


def test_randomness_is_of_the_seed_and_the_step():
    def losses(start):
        state = place(trunk_state().replace(step=jnp.int32(start)))
        return float(trunk_step()(state, batch(), frozen=frozen())[1]["loss"])

    assert losses(5) == losses(5)
    assert len({losses(step) for step in range(4)}) > 1  # other labels and branches are dropped


def test_evaluation_is_the_teacher_forced_loss_without_dropout():
    metrics = trunk_evaluation()(trunk_state(), batch(), frozen=frozen())
    tokenizer, images = {"params": tokenizer_params()}, jnp.asarray(batch()["image"])
    features = TOKENIZER.apply(tokenizer, images, method="encode")
    inputs, targets = TOKENIZER.apply(tokenizer, features, method="training_pair")
    logits = TRUNK.apply({"params": trunk_params()}, read_condition(batch()), inputs)
    assert set(metrics) == METRICS
    expected = trunk_loss(logits, targets, TOKENIZER)[1]
    for name in METRICS:
        assert float(metrics[name]) == pytest.approx(float(expected[name]), rel=1e-5)


def test_tokens_are_as_good_as_their_images():
    tokenizer, images = {"params": tokenizer_params()}, jnp.asarray(batch()["image"])
    features = TOKENIZER.apply(tokenizer, images, method="encode")
    tokens = TOKENIZER.apply(tokenizer, features, method="training_pair")[1]
    made = {"tokens": np.asarray(tokens), "label": batch()["label"]}
    expected = trunk_evaluation()(trunk_state(), batch(), frozen=frozen())
    metrics = trunk_evaluation()(trunk_state(), made, frozen=frozen())
    for name in METRICS:
        assert float(metrics[name]) == pytest.approx(float(expected[name]), rel=1e-6)


def test_evaluation_is_of_the_average():
    state = trunk_state()
    other = jax.tree.map(lambda array: 0.9 * array, state.params)
    assert trunk_evaluation()(
        state.replace(params=other, average=state.params), batch(), frozen=frozen()
    ) == trunk_evaluation()(state.replace(average=state.params), batch(), frozen=frozen())


def test_tokenizer_learns_a_batch_and_reports_metrics():
    step, state = tokenizer_step(), tokenizer_state()
    before = tokenizer_evaluation()(state, batch())
    for _ in range(20):
        state, metrics = step(state, batch())
    assert set(metrics) == set(before) | STEP | USAGE
    assert set(before) == {"loss", "reconstruction_loss", "vq_loss", "psnr"}
    assert float(metrics["loss"]) < 0.8 * float(before["loss"])
    assert float(metrics["psnr"]) > float(before["psnr"])


def test_a_bitwise_tokenizer_and_its_trunk_learn_a_batch():
    bitwise = replace(BITS, stem_stride=2, patch=2)
    config = replace(CONFIG, tokenizer=bitwise)
    tokenizer, trunk = build_tokenizer(bitwise), build_trunk(config)
    step = make_tokenizer_step(tokenizer, optimizer(), config.training)
    params = random_params(tokenizer, jnp.zeros((1, 8, 8, 3)))
    state, losses = place(create_state(params, optimizer(), config.training.ema_decay)), []
    for _ in range(45):
        state, metrics = step(state, batch())
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:2])

    step = make_trunk_step(trunk, tokenizer, optimizer(), config=config.training, seed=7)
    inputs = Frozen(state.params)
    params = random_params(trunk, *example_inputs(trunk))
    state, losses = place(create_state(params, optimizer(), config.training.ema_decay)), []
    for _ in range(20):
        state, metrics = step(state, batch(), frozen=inputs)
        losses.append(float(metrics["loss"]))
    assert set(metrics) == METRICS | STEP
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


@pytest.mark.parametrize("train", ["trunk", "tokenizer"])
def test_a_step_with_nan_changes_counts_only(train):
    step, state, more = (
        (trunk_step(), trunk_state(), {"frozen": frozen()})
        if train == "trunk"
        else (tokenizer_step(), tokenizer_state(), {})
    )
    poison = jax.tree.map(lambda array: array.at[(0,) * array.ndim].set(jnp.nan), state.params)
    kept = jax.tree.map(jnp.copy, (poison, state.opt_state, state.average))
    state, metrics = step(place(state.replace(params=poison)), batch(), **more)
    assert not np.isfinite(metrics["loss"])
    assert int(state.step) == 1 and state.skipped.tolist() == [1, 1]
    assert int(metrics["skipped"]) == int(metrics["skipped_in_a_row"]) == 1
    now = (state.params, state.opt_state, state.average)
    jax.tree.map(np.testing.assert_array_equal, now, kept)
