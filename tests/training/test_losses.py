"""Losses and metrics: against the reference, and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.training.losses import tokenizer_loss, trunk_loss
from tests.training.tiny import TOKENIZER

TARGETS = jnp.array([[3, 0, 1, 2, 3]])


def logits_with(right):
    """Logits of one sample that favour the target where `right` is 1 and code 9 elsewhere."""
    best = jnp.where(jnp.array(right) == 1, TARGETS[0], 9)
    return 5.0 * jnp.eye(16)[best][None]


def test_tail_is_the_last_scale():
    loss, metrics = trunk_loss(logits_with([0, 1, 1, 0, 1]), TARGETS, TOKENIZER)
    hit = np.log(np.exp(5) + 15) - 5
    miss = hit + 5
    assert float(loss) == pytest.approx((3 * hit + 2 * miss) / 5, rel=1e-5)
    assert metrics["loss"] is loss
    assert float(metrics["loss_tail"]) == pytest.approx((3 * hit + miss) / 4, rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx(0.6)
    assert float(metrics["accuracy_tail"]) == pytest.approx(0.75)
    assert float(metrics["loss_scale_1"]) == pytest.approx(miss, rel=1e-5)
    assert float(metrics["accuracy_scale_1"]) == 0.0
    assert metrics["loss_scale_2"] is metrics["loss_tail"]
    assert metrics["accuracy_scale_2"] is metrics["accuracy_tail"]


def test_label_smoothing_mixes_in_the_mean_over_the_vocabulary():
    logits = logits_with([1, 1, 1, 1, 1])
    loss, _ = trunk_loss(logits, TARGETS, TOKENIZER, smoothing=0.1)
    hit = np.log(np.exp(5) + 15) - 5
    everywhere = (hit + 15 * (hit + 5)) / 16
    assert float(loss) == pytest.approx(0.9 * hit + 0.1 * everywhere, rel=1e-5)


def test_tokenizer_loss_adds_up():
    images = jnp.full((2, 4, 4, 3), 0.5)
    loss, metrics = tokenizer_loss(images, images + 0.1, jnp.array(0.25))
    assert float(metrics["reconstruction_loss"]) == pytest.approx(0.01, rel=1e-5)
    assert float(loss) == pytest.approx(0.26, rel=1e-5)
    assert float(metrics["psnr"]) == pytest.approx(10 * np.log10(400), rel=1e-5)


def test_psnr_is_of_clipped_reconstructions():
    images = jnp.ones((2, 4, 4, 3))
    _, metrics = tokenizer_loss(images, images + 3.0, jnp.array(0.0))
    assert np.isposinf(metrics["psnr"])
