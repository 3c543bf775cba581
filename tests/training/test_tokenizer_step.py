"""The tokenizer's step with all losses: what it computes, and what it leaves alone."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mvar_jax.config import OptimizerConfig
from mvar_jax.models.checksum import tokenizer_names
from mvar_jax.networks.lpips import perceptual_distance
from mvar_jax.ops.diff_augment import diff_augment
from mvar_jax.ops.noise import fold_each
from mvar_jax.training.adversary import FAKE_STREAM, KEPT, Adversary
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.placement import place
from mvar_jax.training.state import create_state
from mvar_jax.training.step import update
from mvar_jax.training.tokenizer_step import Objective, make_tokenizer_step
from tests.training import tiny_losses
from tests.training.tiny import (
    CONFIG,
    TOKENIZER,
    batch,
    optimizer,
    tokenizer_params,
    tokenizer_state,
    tokenizer_step,
)
from tests.training.tiny_losses import ALL, BACKBONE, FIRST, STEPS, WITH_ALL, perceptual

METRICS = {
    *("loss", "reconstruction_loss", "vq_loss", "psnr", "l1", "lpips", "generator_loss"),
    *("discriminator_loss", "real_logits", "fake_logits", "lecam_loss", "adaptive_weight"),
    *("gradient_norm", "learning_rate", "skipped", "skipped_in_a_row"),
    *("usage_least", "usage_scale_1", "usage_scale_2"),
    *("perplexity_scale_1", "perplexity_scale_2"),
}
ADVERSARIAL = {
    *("generator_loss", "discriminator_loss", "real_logits", "fake_logits", "lecam_loss"),
    "adaptive_weight",
}


def at(number, **changes):
    """The state before a step of that number."""
    return place(tiny_losses.state().replace(step=jnp.int32(number), **changes))


def copies(tree):
    return jax.tree.map(jnp.copy, tree)


def same(one, other):
    return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def reconstruct(params):
    return TOKENIZER.apply({"params": params}, batch()["image"], method="reconstruct")


def close(images, made):
    """The losses but the adversary's, by themselves."""
    pixels = ALL.l1 * jnp.mean(jnp.abs(made - images)) + ALL.l2 * jnp.mean((made - images) ** 2)
    return pixels + ALL.lpips * jnp.mean(perceptual_distance(BACKBONE, perceptual(), images, made))


def fooled(own, made, number):
    """The generator's loss at a step."""
    adversary = tiny_losses.objective().adversary
    keys = fold_each(adversary.keys(jnp.int32(number), len(made)), FAKE_STREAM)
    params = {"params": own["params"]["discriminator"]}
    return -jnp.mean(adversary.discriminator.apply(params, diff_augment(made, keys)))


def test_without_settings_the_step_is_that_of_the_squared_error_bit_for_bit():
    """The step as it was before it had other losses."""

    @jax.jit
    def before(state, rows):
        def loss(params):
            made, vq_loss = TOKENIZER.apply({"params": params}, rows["image"], method="reconstruct")
            squares = jnp.mean((made - rows["image"]) ** 2)
            return squares + vq_loss, {"loss": squares + vq_loss}

        gradients, metrics = jax.grad(loss, has_aux=True)(state.params)
        decay = CONFIG.training.ema_decay
        return update(state, gradients, metrics, optimizer=optimizer(), ema_decay=decay)

    state, other = tokenizer_state(), tokenizer_state()
    for _ in range(5):
        state, metrics = tokenizer_step()(state, batch())
        other, expected = before(other, batch())
        assert {name: metrics[name] for name in expected} == expected
    assert same(state, other)


def test_a_step_with_everything_is_its_parts():
    number, state = 3, at(3)
    own, images, params = copies(state.extra[KEPT]), batch()["image"], copies(state.params)
    _, metrics = tiny_losses.step()(state, batch(), perceptual())
    assert set(metrics) == METRICS
    assert all(np.isfinite(value) for value in metrics.values())

    made, vq_loss = reconstruct(params)
    generator = fooled(own, made, number)
    assert float(metrics["generator_loss"]) == pytest.approx(float(generator), rel=1e-4)

    def through_last(loss):
        def of_kernel(kernel):
            last = {**params["decoder"]["conv_out"], "kernel": kernel}
            changed = {**params, "decoder": {**params["decoder"], "conv_out": last}}
            return loss(reconstruct(changed)[0])

        return jnp.linalg.norm(jax.grad(of_kernel)(params["decoder"]["conv_out"]["kernel"]))

    norms = [
        float(through_last(loss))
        for loss in (lambda x: close(images, x), lambda x: fooled(own, x, number))
    ]
    ramped = 0.4 * 2 / 3  # the second of two steps of the ramp, before the full weight
    weight = ramped * norms[0] / (norms[1] + 1e-4)
    assert float(metrics["adaptive_weight"]) == pytest.approx(weight, rel=1e-3)
    expected = float(close(images, made) + vq_loss + weight * generator)
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-4)

    def whole(params):
        made, vq_loss = reconstruct(params)
        return close(images, made) + vq_loss + weight * fooled(own, made, number)

    norm = float(optax.global_norm(jax.jit(jax.grad(whole))(params)))
    assert float(metrics["gradient_norm"]) == pytest.approx(norm, rel=1e-3)


def test_lpips_of_every_other_image():
    state, images, every = at(3), batch()["image"], 2
    made, _ = reconstruct(state.params)
    _, metrics = tiny_losses.step(lpips_every=every)(state, batch(), perceptual())
    seen = perceptual_distance(BACKBONE, perceptual(), images[::every], made[::every])
    assert float(metrics["lpips"]) == pytest.approx(float(jnp.mean(seen)), rel=1e-4)
    whole = tiny_losses.evaluation()(at(3), batch(), perceptual())
    assert abs(float(whole["lpips"]) / float(metrics["lpips"]) - 1) > 1e-3


def test_the_quotient_is_clamped_and_can_be_left_out():
    ramped = 0.4 * 2 / 3
    for changes, weight in (({"adaptive_clamp": (0.0, 1e-3)}, 1e-3), ({"adaptive": False}, 1.0)):
        _, metrics = tiny_losses.step(**changes)(at(3), batch(), perceptual())
        assert float(metrics["adaptive_weight"]) == pytest.approx(ramped * weight, rel=1e-5)


def test_before_its_start_the_adversary_is_left_alone(tmp_path):
    tiny_losses.fit_with_all(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert [ADVERSARIAL <= set(row) for row in rows] == [n >= FIRST for n in range(STEPS)]
    assert [not ADVERSARIAL & set(row) for row in rows] == [n < FIRST for n in range(STEPS)]

    state = at(1)
    kept = copies(state.extra)
    state, _ = tiny_losses.early_step()(state, batch(), perceptual())
    assert same(state.extra, kept)
    state, metrics = tiny_losses.step()(state, batch(), perceptual())
    assert not same(state.extra, kept)
    assert float(metrics["adaptive_weight"]) > 0


def test_the_averages_of_logits_move_to_the_latest():
    state = at(4)
    state.extra[KEPT]["numbers"] = {"real": jnp.float32(1.0), "fake": jnp.float32(-1.0)}
    state, metrics = tiny_losses.step()(place(state), batch(), perceptual())
    for name, before in (("real", 1.0), ("fake", -1.0)):
        expected = 0.999 * before + 0.001 * float(metrics[f"{name}_logits"])
        assert float(state.extra[KEPT]["numbers"][name]) == pytest.approx(expected, rel=1e-6)


def test_the_discriminator_learns_to_tell_a_batch():
    state, losses = at(FIRST), []
    frozen = copies(state.params)
    for _ in range(60):
        state = state.replace(params=copies(frozen), step=jnp.int32(FIRST))
        state, metrics = tiny_losses.step(diffaug=False)(place(state), batch(), perceptual())
        losses.append(float(metrics["discriminator_loss"]))
    assert losses[-1] < 0.7 * losses[0]
    assert float(metrics["real_logits"]) > float(metrics["fake_logits"])


@pytest.mark.parametrize("what", ["tokenizer", "discriminator"])
def test_a_step_with_nan_changes_counts_only(what):
    def poison(tree):
        return jax.tree.map(lambda array: array.at[(0,) * array.ndim].set(jnp.nan), tree)

    state = at(4)
    if what == "tokenizer":
        state = state.replace(params=poison(state.params))
    else:
        state.extra[KEPT]["params"] = poison(state.extra[KEPT]["params"])
    kept = copies((state.params, state.opt_state, state.average, state.extra))
    state, metrics = tiny_losses.step()(place(state), batch(), perceptual())
    assert int(state.step) == 5 and state.skipped.tolist() == [1, 1]
    assert not np.isfinite(metrics["loss"])
    now = (state.params, state.opt_state, state.average, state.extra)
    jax.tree.map(np.testing.assert_array_equal, now, kept)


def test_parts_are_the_whole_but_for_the_quotient_of_each():
    exact = {"adaptive": False}
    whole, split = at(3), at(3)
    for _ in range(2):
        whole, metrics = tiny_losses.step(**exact)(whole, batch(), perceptual())
        split, own = tiny_losses.step(2, **exact)(split, batch(), perceptual())
        for name in METRICS:
            assert float(own[name]) == pytest.approx(float(metrics[name]), rel=1e-3), name
    for one, other in zip(jax.tree.leaves(split.extra), jax.tree.leaves(whole.extra)):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4)
    _, metrics = tiny_losses.step(2)(at(3), batch(), perceptual())
    assert 0 < float(metrics["adaptive_weight"]) < np.inf


def test_evaluation_has_no_adversary():
    metrics = tiny_losses.evaluation()(tiny_losses.state(), batch(), perceptual())
    assert set(metrics) == {"loss", "reconstruction_loss", "vq_loss", "psnr", "l1", "lpips"}
    params, images = tiny_losses.state().params, batch()["image"]
    made, vq_loss = reconstruct(params)
    assert float(metrics["loss"]) == pytest.approx(float(close(images, made) + vq_loss), rel=1e-4)


def test_a_start_that_rounds_to_the_end_is_refused():
    late = replace(WITH_ALL, tokenizer_loss=replace(ALL, adversarial_start=0.6))
    assert Adversary.of(late, 10).first == 6
    with pytest.raises(ValueError, match=r"adversarial_start: got 0\.6, which is step 1 of 1, "):
        Adversary.of(late, 1)
    assert Adversary.of(CONFIG, 10) is None


@pytest.mark.parametrize("parts", ["encoder", "tokens"])
def test_frozen_parts_stay_and_the_others_are_trained(parts):
    """With weight decay and an average, which would move them too."""
    objective = replace(Objective(), frozen=parts)
    decaying = make_optimizer(OptimizerConfig(weight_decay=0.1, final_weight_decay=0.1), 10, 8)
    training = replace(CONFIG.training, ema_decay=0.9)
    step = make_tokenizer_step(TOKENIZER, decaying, training, objective)
    state = place(create_state(tokenizer_params(), decaying, 0.9))
    before = copies(state.params)
    for _ in range(2):
        state, metrics = step(state, batch())
    changed = {name for name, tree in before.items() if not same(tree, state.params[name])}
    averaged = {name for name, tree in before.items() if not same(tree, state.average[name])}
    expected = {"decoder", "decoder_projection"} | ({"quantizer"} if parts == "encoder" else set())
    assert changed == averaged == expected
    assert float(metrics["gradient_norm"]) > 0
    same_tokens = tokenizer_names(state.params)[0] == tokenizer_names(before)[0]
    assert same_tokens == (parts == "tokens")
    assert tokenizer_names(state.params)[1] != tokenizer_names(before)[1]
