"""LPIPS and the adversary of a run: where they come from, and a whole training with both."""

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest

from mvar_jax.config import DataConfig, TokenizerLossConfig, TrainingConfig
from mvar_jax.config.files import load_config
from mvar_jax.config.tree import from_config_dict
from mvar_jax.convert import network_files
from mvar_jax.experiment import tokenizer_objective
from mvar_jax.experiment.tokenizer_objective import find_lpips, make_objective
from mvar_jax.experiment.tokenizer_training import train_tokenizer
from mvar_jax.networks.lpips import ALEXNET
from mvar_jax.training.weights import load_tokenizer
from mvar_jax.workdir import Workdir
from tests.evaluation.networks import tiny_lpips

DIGITS = from_config_dict(load_config("digits.py:runlocal"))
LPIPS = TokenizerLossConfig(lpips=0.5, lpips_network="alex")


def alex(seed=0):
    """A tiny network that calls itself AlexNet."""
    network = tiny_lpips()
    head = network.params["head0"]["weight"] + seed
    return dataclasses.replace(
        network,
        backbone=replace(network.backbone, name="alex"),
        params=network.params | {"head0": {"weight": head.astype(np.float32)}},
    )


def with_loss(loss):
    return replace(DIGITS, tokenizer_loss=loss)


def test_given_weights_are_taken():
    config, network = find_lpips(with_loss(LPIPS), alex())
    assert config.tokenizer_loss == LPIPS and network.backbone.name == "alex"
    assert find_lpips(DIGITS, None) == (DIGITS, None)


def test_wrong_weights_are_refused():
    with pytest.raises(ValueError, match=r"lpips: got 0 with the weights of tiny, expected more"):
        find_lpips(DIGITS, alex())
    with pytest.raises(ValueError, match=r"lpips_network: got 'vgg' with the weights of 'alex'"):
        find_lpips(with_loss(replace(LPIPS, lpips_network="vgg")), alex())
    small = replace(DIGITS.tokenizer, image_size=(16, 16), stem_stride=4)
    with pytest.raises(ValueError, match=r"images of 16 x 16 pixels, expected at least 31 x 31"):
        network = replace(alex(), backbone=ALEXNET)
        find_lpips(replace(with_loss(LPIPS), tokenizer=small), network)


def test_without_weights_a_run_is_refused_unless_they_are_optional(monkeypatch, capsys):
    for module in (network_files, tokenizer_objective):
        monkeypatch.setattr(module, "has_lpips", lambda: False)
    monkeypatch.setattr(network_files, "LPIPS_PACKAGE", "no_such_package")
    missing = r"^tokenizer_loss.lpips: got .*, whose weights are in no package that is installed"
    with pytest.raises(ValueError, match=missing):
        find_lpips(with_loss(LPIPS), None)
    config, network = find_lpips(with_loss(replace(LPIPS, lpips_optional=True)), None)
    assert network is None and config.tokenizer_loss.lpips == 0
    said = capsys.readouterr().err
    assert said.startswith("tokenizer: trains without LPIPS") and said.count("\n") == 1


def test_a_run_that_began_without_weights_goes_on_without(capsys):
    optional = with_loss(replace(LPIPS, lpips_optional=True))
    config, network = find_lpips(optional, None, DIGITS)
    assert network is None and config.tokenizer_loss.lpips == 0
    assert capsys.readouterr().err == "tokenizer: goes on without LPIPS, as it was begun\n"
    config, network = find_lpips(optional, alex(), optional)
    assert config == optional and network is not None


def test_a_whole_training_with_all_losses(tmp_path, digits_directory):
    loss = TokenizerLossConfig(
        l1=0.2,
        lpips=0.5,
        lpips_network="alex",
        lpips_start=0.25,
        adversarial=0.4,
        adversarial_start=0.5,
        lecam=0.01,
        diffaug=True,
        discriminator_channels=4,
        discriminator_layers=2,
    )
    config = replace(
        DIGITS,
        batch_size=8,
        data=DataConfig(name="digits", directory=digits_directory, num_threads=0),
        tokenizer=replace(DIGITS.tokenizer, base_channels=16),
        tokenizer_loss=loss,
        tokenizer_training=TrainingConfig(
            steps=4, log_every=1, validate_every=4, validation_batches=1, save_every=2
        ),
    )
    workdir = Workdir(tmp_path)
    train_tokenizer(config, workdir, perceptual=alex())
    log = (workdir.tokenizer.path / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in log]
    assert [row.get("adaptive_weight", 0) > 0 for row in rows] == [False, False, True, True]
    assert [row.get("lpips", 0) > 0 for row in rows] == [False, True, True, True]
    assert {"validation_loss", "validation_lpips", "validation_psnr"} <= set(rows[-1])
    assert "validation_discriminator_loss" not in rows[-1]
    assert load_tokenizer(config, workdir)  # as a trunk and its sampler read it
    with pytest.raises(ValueError, match=r"was begun with other weights of LPIPS \(their checksum"):
        train_tokenizer(config, workdir, perceptual=alex(1))
    with pytest.raises(ValueError, match=r"config\.tokenizer_loss\.lecam=0\.01, got 0\.02"):
        stronger = replace(config, tokenizer_loss=replace(loss, lecam=0.02))
        train_tokenizer(stronger, workdir, perceptual=alex())


def test_lpips_that_would_start_at_the_end_is_refused():
    config, network = with_loss(replace(LPIPS, lpips_start=0.6)), alex()
    assert make_objective(config, network, 10).starts() == [0, 6]
    with pytest.raises(ValueError, match=r"lpips_start: got 0\.6, which is step 1 of 1, expected"):
        make_objective(config, network, 1)
