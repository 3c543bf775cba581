"""What a tokenizer's training does for its codes, and what it tells of their use."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.config import CodebookConfig, OptimizerConfig
from mvar_jax.tokenizers import build_tokenizer
from mvar_jax.training.accumulation import accumulated_gradients
from mvar_jax.training.codebook import CodebookCare, usage_metrics
from mvar_jax.training.codebook_start import start_codes
from mvar_jax.training.loop import Data, InitialState, Programs, Run, fit
from mvar_jax.training.losses import tokenizer_loss
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.placement import place
from mvar_jax.training.state import create_state
from mvar_jax.training.step import update
from mvar_jax.training.throughput import StepCost
from mvar_jax.training.tokenizer_step import make_tokenizer_evaluation, make_tokenizer_step
from tests.training.tiny import (
    BATCH,
    BITS,
    CONFIG,
    TOKENIZER,
    batch,
    eval_batches,
    optimizer,
    random_params,
    tokenizer_evaluation,
    tokenizer_params,
    tokenizer_state,
    tokenizer_step,
    train_batches,
)

RESTARTS = CodebookConfig(restart_below=0.6, restart_window=5, dropout_rate=0.5, dropout_from=1)


def care(parts=1, config=RESTARTS):
    return CodebookCare(TOKENIZER, config, seed=7, parts=parts)


def restarting_step(parts=1):
    training = replace(CONFIG.training, accumulate=parts)
    return make_tokenizer_step(TOKENIZER, optimizer(), training, care=care(parts))


@pytest.fixture(scope="module")
def restarting():
    """The step with restarts and dropout, compiled once."""
    return restarting_step()


def restarting_state():
    return place(replace(tokenizer_state(), extra=care().start()))


def codebook(tree):
    return np.asarray(tree["quantizer"]["codebook"])


def test_usage_and_perplexity_are_those_of_numpy():
    generator = np.random.default_rng(0)
    tokens = [generator.integers(0, 5, (4, 1)), generator.integers(0, 16, (4, 9))]
    counts = [TOKENIZER.token_space.count(jnp.asarray(own)) for own in tokens]
    metrics = usage_metrics(TOKENIZER, counts)
    for scale, own in enumerate(tokens, start=1):
        distinct, times = np.unique(own, return_counts=True)
        shares = times / own.size
        usage = metrics[f"usage_scale_{scale}"]
        np.testing.assert_allclose(usage, len(distinct) / min(16, own.size), rtol=1e-6)
        perplexity = np.exp(-np.sum(shares * np.log(shares)))
        np.testing.assert_allclose(metrics[f"perplexity_scale_{scale}"], perplexity, rtol=1e-5)
    assert metrics["usage_least"] == min(metrics["usage_scale_1"], metrics["usage_scale_2"])


def test_usage_of_bits_is_of_those_with_both_values():
    tokenizer = build_tokenizer(BITS)
    bits = jnp.array([[[0, 1, 0, 1]], [[0, 1, 1, 1]], [[0, 0, 1, 1]], [[0, 1, 0, 1]]], jnp.uint8)
    counts = tokenizer.token_space.count(bits)
    np.testing.assert_array_equal(counts, [[4, 0], [1, 3], [2, 2], [0, 4]])
    metrics = usage_metrics(tokenizer, [counts])
    entropy = (-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)) + np.log(2)) / 4
    assert float(metrics["usage_scale_1"]) == 0.5
    np.testing.assert_allclose(metrics["perplexity_scale_1"], np.exp(entropy), rtol=1e-6)


def test_metrics_of_a_step_are_of_its_whole_batch():
    metrics = tokenizer_step()(tokenizer_state(), batch())[1]
    features = TOKENIZER.apply({"params": tokenizer_params()}, batch()["image"], method="encode")
    tokens = TOKENIZER.apply({"params": tokenizer_params()}, features, method="quantize")
    expected = usage_metrics(TOKENIZER, [TOKENIZER.token_space.count(own) for own in tokens])
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6)


def test_without_care_the_step_is_the_plain_one():
    """Bit for bit: what is seen of codes changes nothing."""

    @jax.jit
    def plain(state, batch):
        def loss(params, part):
            made, vq_loss = TOKENIZER.apply({"params": params}, part["image"])
            return tokenizer_loss(part["image"], made, vq_loss)

        gradients, metrics = accumulated_gradients(loss, batch, 1)(state.params)
        decay = CONFIG.training.ema_decay
        return update(state, gradients, metrics, optimizer=optimizer(), ema_decay=decay)

    ours, theirs = tokenizer_state(), tokenizer_state()
    for _ in range(3):
        ours, metrics = tokenizer_step()(ours, batch())
        theirs, expected = plain(theirs, batch())
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert {name: float(metrics[name]) for name in expected} == jax.tree.map(float, expected)
    assert ours.extra is None


def test_little_used_codes_are_restarted_after_their_time(restarting):
    """The use of a code that no token takes falls by a fifth a step, below 0.6 in the third."""
    state = restarting_state()
    far = jnp.asarray(codebook(state.params)).at[:4].set(100.0)  # no token takes them
    params = state.params | {"quantizer": state.params["quantizer"] | {"codebook": far}}
    state = place(state.replace(params=params, average=jax.tree.map(jnp.copy, params)))
    for step in range(1, 4):
        before = codebook(state.params)
        state, metrics = restarting(state, batch())
        use = np.asarray(state.extra["codes"]["use"])
        if step < 3:
            assert (np.abs(codebook(state.params)[:4] - before[:4]) < 1).all()
            np.testing.assert_allclose(use[:4], 0.8**step, rtol=1e-6)
    after, average = codebook(state.params), codebook(state.average)
    restarted = np.abs(after - before).max(axis=1) > 10
    assert int(metrics["restarted"]) >= restarted.sum() == 4
    assert (use[:4] == 1).all()
    np.testing.assert_array_equal(after[:4], average[:4])
    assert len(np.unique(after[:4], axis=0)) == 4  # no residual twice
    adam = state.opt_state[1].inner_state[0]
    for moment in (adam.mu, adam.nu):
        assert (codebook(moment)[:4] == 0).all() and (codebook(moment) != 0).any()


def test_use_is_of_all_scales_relative_to_the_mean_code(restarting):
    state = restarting_state()
    features = TOKENIZER.apply({"params": state.params}, batch()["image"], method="encode")
    tokens = TOKENIZER.apply({"params": state.params}, features, method="quantize")
    counts = np.bincount(np.concatenate([np.ravel(own) for own in tokens]), minlength=16)
    state, metrics = restarting(state, batch())
    expected = 0.8 + 0.2 * 16 * counts / counts.sum()
    assert int(metrics["restarted"]) == 0
    np.testing.assert_allclose(state.extra["codes"]["use"], expected, rtol=1e-5)


def test_restarted_codes_are_residuals_of_the_batch(restarting):
    """Of the state before the update, at some position of some scale of some image."""
    state, fresh = restarting_state(), restarting_state()
    kept = {"use": jnp.zeros(16), "restarted": jnp.int32(0)}
    state = place(state.replace(extra={"codes": kept}))
    variables = {"params": jax.tree.map(jnp.copy, state.params)}
    made = TOKENIZER.apply(variables, batch()["image"], method="training_pass")
    tokens = np.concatenate([np.asarray(own.tokens).ravel() for own in made.scales])
    use = 0.2 * 16 * np.bincount(tokens, minlength=16) / len(tokens)  # a fifth of the latest
    dead, live = np.flatnonzero(use < 0.6), np.flatnonzero(use >= 0.6)
    left = np.concatenate([np.asarray(own.left).reshape(-1, 4) for own in made.scales])
    state, metrics = restarting(state, batch())
    count = min(len(dead), 2 * BATCH)
    assert int(metrics["restarted"]) == count > 0
    for code in codebook(state.params)[dead[:count]]:
        assert np.abs(left - code).max(axis=1).min() < 1e-5
    plain = codebook(restarting(fresh, batch())[0].params)  # of a state in which nothing is dead
    np.testing.assert_array_equal(codebook(state.params)[live], plain[live])


def test_a_skipped_step_restarts_nothing(restarting):
    state = restarting_state()
    kept = {"use": jnp.zeros(16), "restarted": jnp.int32(4)}
    poison = jax.tree.map(lambda array: array.at[(0,) * array.ndim].set(jnp.nan), state.params)
    state = place(state.replace(params=poison, extra={"codes": kept}))
    expected = jax.tree.map(np.asarray, (state.params, state.opt_state, state.extra))
    state, metrics = restarting(state, batch())
    assert int(metrics["skipped"]) == 1
    now = (state.params, state.opt_state, state.extra)
    jax.tree.map(np.testing.assert_array_equal, now, expected)


def test_parts_are_as_the_whole(restarting):
    states, metrics = [], []
    for step in (restarting, restarting_step(2)):
        state = restarting_state()
        for _ in range(4):
            state, last = step(state, batch())
        states.append(state)
        metrics.append(last)
    assert int(metrics[0]["restarted"]) > 0
    assert metrics[0].keys() == metrics[1].keys()
    for name in metrics[0]:
        np.testing.assert_allclose(metrics[0][name], metrics[1][name], rtol=2e-4, err_msg=name)
    whole, parts = (codebook(state.params) for state in states)
    np.testing.assert_allclose(whole, parts, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, states[0].extra, states[1].extra)


def test_depths_follow_seed_step_and_row():
    config = CodebookConfig(dropout_rate=0.5, dropout_from=2)
    wide = replace(CONFIG.tokenizer, scales=((1, 1), (1, 1), (1, 2), (2, 2)))
    drawn = CodebookCare(build_tokenizer(wide), config, seed=1)

    def depths(step, rows=2000, drawn=drawn):
        return np.asarray(drawn.with_draws({"image": jnp.zeros(rows)}, jnp.int32(step))["depth"])

    np.testing.assert_array_equal(depths(3)[:7], depths(3, 7))
    assert (depths(3) != depths(4)).any()
    assert (depths(3) != depths(3, drawn=replace(drawn, seed=2))).any()
    shares = np.bincount(depths(0), minlength=5) / 2000
    np.testing.assert_allclose(shares, [0, 0, 0.25, 0.25, 0.5], atol=0.04)


def test_entropy_makes_bits_decided_and_both_values_used():
    tokenizer = build_tokenizer(BITS)
    soft = CodebookConfig(entropy_weight=1.0, entropy_sharpness=1.0)
    fast = make_optimizer(OptimizerConfig(learning_rate=0.6), 60, BATCH)
    step = make_tokenizer_step(tokenizer, fast, CONFIG.training, care=CodebookCare(tokenizer, soft))
    plain = make_tokenizer_step(tokenizer, fast, CONFIG.training)
    params = random_params(tokenizer, jnp.zeros((1, 8, 8, 3)))
    bias = params["encoder"]["conv_out"]["bias"]
    params["encoder"]["conv_out"]["bias"] = bias.at[:].set(1.0)  # all bits 1
    usage, history = {}, []
    for name, program in (("soft", step), ("plain", plain)):
        state = place(create_state(jax.tree.map(jnp.copy, params), fast))
        for _ in range(60):
            state, metrics = program(state, batch())
            if name == "soft":
                history.append(float(metrics["entropy_loss"]))
        usage[name] = float(metrics["perplexity_scale_1"])
    assert "entropy_loss" not in metrics
    assert history[-1] < history[0] - 0.1
    assert usage["soft"] > usage["plain"]


def fit_codes(directory, steps, watch=lambda _: []):
    training = replace(CONFIG.training, steps=steps, save_every=4)
    programs = Programs(restarting_step(), tokenizer_evaluation())
    initial = InitialState(restarting_state(), restarting_state)
    run = Run("tokenizer", directory, training, steps, StepCost(BATCH), watch)
    return fit(run, programs, Data(train_batches(), eval_batches()), initial=initial)


def test_a_resumed_run_restarts_the_same_codes(tmp_path):
    whole = fit_codes(tmp_path / "whole", 9)

    def stop(row):
        assert row["step"] < 6, "interrupted"
        return []

    with pytest.raises(AssertionError, match="interrupted"):
        fit_codes(tmp_path / "parts", 9, watch=stop)
    rows = []
    parts = fit_codes(tmp_path / "parts", 9, watch=lambda row: rows.append(row["step"]) or [])
    jax.tree.map(np.testing.assert_array_equal, whole.state, parts.state)
    assert whole.history == parts.history
    assert rows == list(range(1, 10))  # those of before the resumption too
    assert whole.history[-1]["restarted"] > 0


def test_codes_start_from_the_features_of_the_first_batches():
    tokenizer = build_tokenizer(replace(CONFIG.tokenizer, vocabulary=6))
    params = random_params(tokenizer, jnp.zeros((1, 8, 8, 3)))
    batches = train_batches()
    started = start_codes(tokenizer, params, batches, 2, seed=5)
    codes = codebook(started)
    assert codes.shape == (6, 4) and len(np.unique(codes, axis=0)) == 6
    np.testing.assert_array_equal(
        codes, codebook(start_codes(tokenizer, params, batches, 2, seed=5))
    )
    assert np.abs(codes - codebook(start_codes(tokenizer, params, batches, 2, seed=6))).max() > 1e-3
    others = jax.tree.map(lambda one, other: one is other, started, params)
    assert jax.tree.leaves(others).count(False) == 1  # nothing but the codebook changed

    def distance(params):
        loss = make_tokenizer_evaluation(tokenizer)
        state = create_state(params, optimizer())
        return float(loss(state, batch())["vq_loss"])

    assert distance(started) < 0.9 * distance(params)


def test_nothing_is_kept_of_codes_without_restarts():
    assert care(config=CodebookConfig(dropout_rate=0.1, dropout_from=1)).start() == {}
    assert care().start()["codes"]["use"].shape == (16,)
