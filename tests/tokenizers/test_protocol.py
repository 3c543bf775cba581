"""Every tokenizer and its tokens offer what the library asks of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.noise import image_keys
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers import (
    BitTokens,
    BSQTokenizer,
    CategoricalTokens,
    Tokenizer,
    TokenSpace,
    VQTokenizer,
    build_tokenizer,
)
from tests.tokenizers.weights import bitwise_config, recipe_params


@pytest.fixture(params=["vq", "bsq"])
def bound(request, tiny_config):
    config = tiny_config if request.param == "vq" else bitwise_config(2)
    return build_tokenizer(config).bind({"params": recipe_params(config)})


def test_protocols(bound):
    assert isinstance(bound, Tokenizer) and isinstance(bound.token_space, TokenSpace)


def test_the_quantizer_decides(tiny_config):
    vq, bsq = build_tokenizer(tiny_config), build_tokenizer(bitwise_config(2))
    assert isinstance(vq, VQTokenizer) and isinstance(bsq, BSQTokenizer)
    assert vq.token_space == CategoricalTokens(16) and vq.token_space.logits == 16
    assert bsq.token_space == BitTokens(6 * 4) and bsq.token_space.logits == 48


def test_accuracy_is_of_the_largest_logit():
    logits = jnp.array([[[0.0, 2.0], [3.0, 1.0]]])
    accuracy = CategoricalTokens(2).accuracy(logits, jnp.array([[1, 1]]))
    assert accuracy.tolist() == [[1.0, 0.0]] and accuracy.dtype == jnp.float32


def test_one_tokenizer_serves_several_schedules(bound):
    stride = bound.config.stride
    for schedule in (ScaleSchedule(((1, 1), (2, 3))), ScaleSchedule(((1, 2), (2, 2), (4, 2)))):
        height, width = (stride * side for side in schedule.last)
        images = jax.random.uniform(jax.random.key(0), (2, height, width, 3), minval=-1)
        features = bound.encode(images, schedule)
        tokens = bound.quantize(features, schedule)
        assert [scale.shape[:2] for scale in tokens] == [(2, n) for n in schedule.lengths]
        inputs, targets = bound.training_pair(features, schedule=schedule)
        np.testing.assert_array_equal(targets, jnp.concatenate(tokens, axis=1))
        again = bound.inputs_from_tokens(targets, schedule=schedule)
        np.testing.assert_allclose(again, inputs, atol=1e-6)
        running = bound.start(2, schedule)
        for scale, own in enumerate(tokens):
            running, _ = bound.accumulate(running, bound.embed(own), scale, schedule)
        assert bound.decode(running).shape == images.shape


def test_images_of_another_size_than_the_schedule_are_refused(bound):
    with pytest.raises(ValueError, match="images: got 8x8 pixels"):
        bound.encode(jnp.zeros((1, 8, 8, 3)), ScaleSchedule.squares(1, 5))


def test_an_image_has_its_tokens_in_any_batch(bound):
    features = jax.random.normal(jax.random.key(0), bound.start(3).shape)
    whole, alone = (bound.training_pair(x) for x in (features, features[1:2]))
    for one, other in zip(alone, whole):
        np.testing.assert_allclose(one, other[1:2], atol=1e-6)


def test_soft_codes_of_certainty_are_the_codes(bound):
    space, keys = bound.token_space, image_keys(0, np.arange(2))
    noise, logits = space.noise(keys, 1, 4), jnp.zeros((2, 4, space.logits))
    certain = space.mixture(logits, 100 * noise, 1.0)
    drawn = bound.embed(space.sample(logits, noise))
    np.testing.assert_allclose(bound.mix(certain), drawn, atol=1e-3)


@pytest.mark.parametrize("bound", ["vq"], indirect=True)
def test_keys_change_nothing_where_nothing_is_drawn(bound):
    height, width = bound.config.image_size
    features = bound.encode(jax.random.uniform(jax.random.key(0), (2, height, width, 3)))
    keys = image_keys(0, np.arange(2))
    for one, other in zip(bound.training_pair(features), bound.training_pair(features, keys)):
        np.testing.assert_array_equal(one, other)


def test_the_next_input_is_that_of_accumulate(bound):
    features = jax.random.normal(jax.random.key(0), bound.start(2).shape)
    codes = bound.embed(bound.quantize(features)[0])
    running, expected = bound.accumulate(bound.start(2), codes, 0)
    np.testing.assert_array_equal(bound.next_input(running, 0), expected)
    assert bound.next_input(running, len(bound.schedule) - 1) is None


def test_filters_spare_tokens_and_noise_explains_them(bound):
    space, keys = bound.token_space, image_keys(0, np.arange(2))
    logits = 3 * jax.random.normal(jax.random.key(1), (2, 50, space.logits))
    noise = space.noise(keys, 1, 50)
    unlikely = space.sample(-logits, 0 * noise)
    kept = space.filter(logits, 1, 0.5, unlikely)
    assert jnp.isfinite(kept).sum() == 2 * jnp.isfinite(space.filter(logits, 1, 0.5)).sum()
    explained = space.posterior(logits, noise, unlikely)
    assert explained.shape == noise.shape and jnp.any(explained != noise)
    for filtered in (logits, kept):
        np.testing.assert_array_equal(space.sample(filtered, explained), unlikely)
