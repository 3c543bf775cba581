"""The bitwise tokenizer: teacher forcing, self-correction, and settings that are refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.config import TokenizerConfig
from mvar_jax.ops.noise import image_keys
from mvar_jax.tokenizers import BitTokens, BSQTokenizer
from tests.tokenizers.weights import recipe_params

KEYS = image_keys(3, np.arange(2))


@pytest.fixture
def bound(bsq_config):
    return BSQTokenizer(bsq_config).bind({"params": recipe_params(bsq_config)})


@pytest.fixture
def images():
    return jax.random.uniform(jax.random.key(0), (2, 16, 24, 3), minval=-1, maxval=1)


def test_forced_tokens_decode_to_the_reconstruction(bound, images):
    features = bound.encode(images)
    inputs, targets = bound.training_pair(features)
    assert inputs.shape == (2, 10, bound.config.token_channels) and targets.shape[:2] == (2, 11)
    np.testing.assert_array_equal(bound.inputs_from_tokens(targets), inputs)
    running, following = bound.start(2), []
    for scale, own in enumerate(bound.schedule.slices):
        running, next_input = bound.accumulate(running, bound.embed(targets[:, own]), scale)
        following += [] if next_input is None else [next_input]
    np.testing.assert_array_equal(jnp.concatenate(following, axis=1), inputs)
    result, _ = bound.reconstruct(images)
    np.testing.assert_allclose(bound.decode(running), jnp.clip(result, -1, 1), atol=1e-6)
    assert bound.token_space == BitTokens(bound.config.token_channels)


def test_without_a_rate_keys_change_nothing(bsq_config, images):
    config = dataclasses.replace(bsq_config, flip_rate=0.0)
    bound = BSQTokenizer(config).bind({"params": recipe_params(config)})
    features = bound.encode(images)
    pairs = bound.training_pair(features), bound.training_pair(features, KEYS)
    for one, other in zip(*pairs):
        np.testing.assert_array_equal(one, other)
    _, targets = pairs[0]
    np.testing.assert_array_equal(bound.inputs_from_tokens(targets, KEYS), pairs[0][0])


def test_with_keys_inputs_have_errors_and_targets_correct_them(bsq_config, images):
    config = dataclasses.replace(bsq_config, flip_rate=1.0)
    bound = BSQTokenizer(config).bind({"params": recipe_params(config)})
    features = bound.encode(images)
    inputs, targets = bound.training_pair(features)
    noisy_inputs, noisy_targets = bound.training_pair(features, KEYS)
    first = bound.schedule.slices[0]
    np.testing.assert_array_equal(noisy_targets[:, first], targets[:, first])
    assert np.any(noisy_inputs != inputs) and np.any(noisy_targets != targets)
    # The inputs are not those of the targets: what they tell is what went wrong.
    assert np.any(bound.inputs_from_tokens(noisy_targets) != noisy_inputs)
    alone = bound.training_pair(features[1:], KEYS[1:])
    for one, whole in zip(alone, (noisy_inputs, noisy_targets)):
        np.testing.assert_allclose(one, whole[1:], atol=1e-6)


def test_errors_cannot_be_drawn_for_tokens_alone(bound):
    tokens = jnp.zeros((2, 11, bound.config.token_channels), jnp.uint8)
    with pytest.raises(ValueError, match=r"flip_rate: got 0.3 for training on tokens, expected 0"):
        bound.inputs_from_tokens(tokens, KEYS)


def test_images_are_clipped(bound):
    decoded = bound.decode(100 * bound.start(1) + jnp.arange(6.0))
    assert 0.5 < np.abs(decoded).max() <= 1


@pytest.mark.parametrize("bits", [16, 24, 32, 64])
def test_official_sizes(bits):
    config = official(bits, (1, 2, 4, 4, 4), 1)
    assert config.stride == 16 and config.token_channels == bits
    assert parameters(config) == {16: 109_970_579, 24: 110_044_315, 32: 110_118_051}.get(
        bits, 110_412_995
    )


def test_the_official_tokenizer_that_folds():
    config = official(14, (1, 2, 4, 4), 2)
    assert config.stride == 16 and config.token_channels == 56
    assert parameters(config) == 81_624_209


def official(bits, multipliers, patch):
    return TokenizerConfig(
        quantizer="bsq",
        image_size=(64, 64),
        scales=((1, 1), (4, 4)),
        code_channels=bits,
        patch=patch,
        base_channels=128,
        channel_multipliers=multipliers,
        attention=False,
    )


def parameters(config):
    shapes = jax.eval_shape(BSQTokenizer(config).init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch": 2}, r"patch: got 2, but quantizer 'vq' does not read it; leave it at 1"),
        ({"flip_rate": 0.1}, r"flip_rate: got 0.1, but quantizer 'vq'"),
        ({"quantizer": "bsq", "vocabulary": 16}, r"vocabulary: got 16, but quantizer 'bsq'"),
        ({"quantizer": "bsq", "normalize_codes": True}, r"normalize_codes: got True, but"),
    ],
    ids=str,
)
def test_settings_of_the_other_quantizer_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        TokenizerConfig(**changes)
