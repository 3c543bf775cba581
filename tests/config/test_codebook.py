"""The settings of codebooks: what fits a tokenizer, and what is off."""

from dataclasses import replace

import pytest

from mvar_jax.config import CodebookConfig, Config, TokenizerConfig
from mvar_jax.config.tree import from_json, to_json

BITS = TokenizerConfig(quantizer="bsq", vocabulary=4096, code_channels=16)


def test_everything_is_off():
    off = CodebookConfig()
    assert not (off.start_batches or off.restart_below or off.dropout_rate or off.entropy_weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_batches": -1}, "codebook.start_batches: got -1, expected 0"),
        ({"restart_below": -1.0}, "codebook.restart_below: got -1"),
        ({"dropout_rate": 1.5}, "codebook.dropout_rate: got 1.5, expected a number from 0.0 to 1"),
        ({"dropout_from": 0}, "codebook.dropout_from: got 0, expected at least 1"),
        ({"entropy_weight": -0.1}, "codebook.entropy_weight: got -0.1"),
        ({"entropy_sharpness": 0.0}, "codebook.entropy_sharpness: got 0.0, expected more than 0"),
        ({"warn_below": -1.0}, "codebook.warn_below: got -1.0"),
    ],
)
def test_bad_values_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        CodebookConfig(**changes)


@pytest.mark.parametrize(
    ("tokenizer", "changes", "message"),
    [
        (TokenizerConfig(), {"entropy_weight": 0.1}, "but quantizer 'vq' does not read it"),
        (BITS, {"restart_below": 0.5}, "codebook.restart_below: got 0.5, but quantizer 'bsq'"),
        (BITS, {"start_batches": 1}, "codebook.start_batches: got 1, but quantizer 'bsq'"),
        (BITS, {"dropout_rate": 0.1, "dropout_from": 10}, "got 10 for 10 scales, expected less"),
    ],
)
def test_what_does_not_fit_the_tokenizer_is_named(tokenizer, changes, message):
    with pytest.raises(ValueError, match=message):
        Config(tokenizer=tokenizer, codebook=CodebookConfig(**changes))


def test_too_few_features_to_start_from():
    config = Config(batch_size=8, codebook=CodebookConfig(start_batches=2))
    with pytest.raises(ValueError, match="start_batches: got 1, whose 2048 features cannot start"):
        replace(config, codebook=CodebookConfig(start_batches=1))


def test_configs_from_before_have_the_defaults():
    text = to_json(Config())
    start, end = text.index('"codebook"'), text.index('"model"')
    assert from_json(text[:start] + text[end:]) == Config()
