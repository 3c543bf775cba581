import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.config import TokenizerConfig
from mvar_jax.convert.tokenizer_names import tokenizer_entries
from mvar_jax.tokenizers import CategoricalTokens, VQTokenizer
from tests.tokenizers.weights import recipe_params


def test_any_shape_of_schedule_goes_there_and_back(tiny_config):
    tokenizer = VQTokenizer(tiny_config)
    images = jax.random.uniform(jax.random.key(0), (2, 16, 24, 3), minval=-1, maxval=1)
    variables = {"params": recipe_params(tiny_config)}
    result, _ = jax.jit(tokenizer.apply)(variables, images)
    assert result.shape == images.shape

    features = jax.jit(lambda x: tokenizer.apply(variables, x, method="encode"))(images)
    inputs, targets = tokenizer.apply(variables, features, method="training_pair")
    assert inputs.shape == (2, 10, 4) and targets.shape == (2, 11)
    running = tokenizer.apply(variables, 2, method="start")
    for k, scale in enumerate(tokenizer.apply(variables, features, method="quantize")):
        assert scale.shape == (2, tokenizer.schedule.lengths[k])
        codes = tokenizer.apply(variables, scale, method="embed")
        running, _ = tokenizer.apply(variables, running, codes, k, method="accumulate")
    decoded = jax.jit(lambda x: tokenizer.apply(variables, x, method="decode"))(running)
    np.testing.assert_allclose(decoded, jnp.clip(result, -1, 1), atol=1e-5)
    assert tokenizer.token_space == CategoricalTokens(16)


def test_inputs_from_tokens_are_those_from_features(tiny_config):
    tokenizer, variables = VQTokenizer(tiny_config), {"params": recipe_params(tiny_config)}
    features = jax.random.normal(jax.random.key(0), (3, 2, 3, 4))
    inputs, targets = tokenizer.apply(variables, features, method="training_pair")
    again = tokenizer.apply(variables, targets, method="inputs_from_tokens")
    np.testing.assert_array_equal(again, inputs)


def test_a_single_scale_has_targets_and_no_inputs():
    config = TokenizerConfig(
        image_size=(4, 4),
        scales=((1, 1),),
        vocabulary=4,
        code_channels=2,
        base_channels=4,
        channel_multipliers=(1,),
        blocks_per_level=1,
        stem_stride=4,
        norm_groups=1,
    )
    tokenizer = VQTokenizer(config)
    variables = {"params": recipe_params(config)}
    features = jnp.zeros((3, 1, 1, 2))
    inputs, targets = tokenizer.apply(variables, features, method="training_pair")
    assert inputs.shape == (3, 0, 2) and targets.shape == (3, 1)
    again = tokenizer.apply(variables, targets, method="inputs_from_tokens")
    assert again.shape == (3, 0, 2)


def test_the_full_size_tokenizer_has_the_official_parameters():
    config = TokenizerConfig()
    shapes = jax.eval_shape(
        VQTokenizer(config).init, jax.random.key(0), jnp.zeros((1, 256, 256, 3))
    )
    ours = {
        tuple(key.key for key in path): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(shapes["params"])
    }
    assert ours == {entry.path: entry.shape for entry in tokenizer_entries(config)}
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 108_948_355


def test_images_of_another_size_are_refused(tiny_config):
    with pytest.raises(ValueError, match=r"images: got 24x16 pixels, expected 16x24"):
        VQTokenizer(tiny_config).init(jax.random.key(0), jnp.zeros((1, 24, 16, 3)))


@pytest.mark.parametrize(
    "changes,message",
    [
        (
            {"scales": ((1, 1), (4, 4))},
            r"last scale \(4, 4\) does not match the image \(256, 256\)",
        ),
        ({"image_size": (256, 250)}, r"which divided by 16 gives \(16, 15.625\)"),
        ({"norm_groups": 48}, "160 channels .* do not divide into norm_groups 48"),
        ({"vocabulary": 1}, "vocabulary: got 1"),
        ({"channel_multipliers": ()}, "channel_multipliers: got none"),
        ({"stem_stride": 0}, "stem_stride: got 0"),
        ({"shared_convolutions": -1}, "shared_convolutions: got -1, expected 0"),
    ],
)
def test_configs_that_cannot_be_built_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TokenizerConfig(**changes)
