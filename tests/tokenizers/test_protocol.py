"""The VQ tokenizer and its tokens offer what the library asks of every tokenizer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.noise import image_keys
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers import CategoricalTokens, Tokenizer, TokenSpace, build_tokenizer
from tests.tokenizers.weights import recipe_params


@pytest.fixture
def bound(tiny_config):
    return build_tokenizer(tiny_config).bind({"params": recipe_params(tiny_config)})


def test_protocols(bound):
    assert isinstance(bound, Tokenizer) and isinstance(bound.token_space, TokenSpace)
    assert hash(bound.token_space) == hash(CategoricalTokens(bound.config.vocabulary))
    assert bound.token_space.logits == bound.config.vocabulary


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
        assert [scale.shape for scale in tokens] == [(2, n) for n in schedule.lengths]
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


def test_keys_change_nothing_where_nothing_is_drawn(bound):
    height, width = bound.config.image_size
    features = bound.encode(jax.random.uniform(jax.random.key(0), (2, height, width, 3)))
    keys = image_keys(0, np.arange(2))
    for one, other in zip(bound.training_pair(features), bound.training_pair(features, keys)):
        np.testing.assert_array_equal(one, other)
