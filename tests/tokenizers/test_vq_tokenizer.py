import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from mvar_jax.config import TokenizerConfig
from mvar_jax.convert.tokenizer_names import tokenizer_entries
from mvar_jax.tokenizers import CategoricalTokens, VQTokenizer
from tests.reference import load_golden
from tests.tokenizers.weights import recipe_params

GOLDEN = load_golden("vqvae_tiny_a")


def channels_first(maps):
    return rearrange(np.asarray(maps), "b h w c -> b c h w")


@pytest.fixture(scope="module")
def reference():
    """The tokenizer of the reference file, its table of names, parameters and images."""
    about = GOLDEN.config
    config = TokenizerConfig(
        image_size=(about["px"], about["px"]),
        scales=tuple((side, side) for side in about["pn"]),
        vocabulary=about["V"],
        code_channels=about["z"],
        base_channels=about["ch"],
    )
    images = jnp.asarray(rearrange(GOLDEN["image"], "b c h w -> b h w c"))
    return VQTokenizer(config), tokenizer_entries(config), recipe_params(config), images


def test_tokens_inputs_and_images_are_the_reference(reference):
    tokenizer, _, params, images = reference

    def call(method, *arguments):
        return tokenizer.apply({"params": params}, *arguments, method=method)

    features = jax.jit(lambda x: call("encode", x))(images)
    GOLDEN.check("f", channels_first(features))
    tokens = call("quantize", features)
    for k, scale in enumerate(tokens):
        assert scale.dtype == jnp.int32
        GOLDEN.check(f"idx_s{k}", scale)
    inputs, targets = call("training_pair", features)
    GOLDEN.check("var_input", inputs)
    np.testing.assert_array_equal(targets, jnp.concatenate(tokens, axis=1))

    running, next_inputs = call("start", 2), []
    for k, scale in enumerate(tokens):
        running, next_input = call("accumulate", running, call("embed", scale), k)
        GOLDEN.check(f"f_hat_s{k}", channels_first(running))
        next_inputs.append(next_input)
    assert next_inputs.pop() is None
    np.testing.assert_array_equal(jnp.concatenate(next_inputs, axis=1), inputs)
    GOLDEN.check("recon", channels_first(jax.jit(lambda x: call("decode", x))(running)))


def test_the_training_pass_and_its_gradients_are_the_reference(reference):
    tokenizer, entries, params, images = reference

    def loss(params):
        result, vq_loss = tokenizer.apply({"params": params}, images)
        return jnp.mean((result - images) ** 2) + vq_loss, (result, vq_loss)

    differentiate = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (total, (result, vq_loss)), gradients = differentiate(params)
    GOLDEN.check("train_recon", channels_first(result))
    GOLDEN.check("vq_loss", vq_loss)
    GOLDEN.check("train_total_loss", total)

    by_name = {}
    for entry in entries:
        by_name[entry.official] = gradients
        for key in entry.path:
            by_name[entry.official] = by_name[entry.official][key]
    assert set(by_name) == set(GOLDEN.param_names)
    assert jax.tree.structure(gradients).num_leaves == len(GOLDEN.param_names)
    GOLDEN.check("grad_l2", [jnp.linalg.norm(by_name[name]) for name in GOLDEN.param_names])
    GOLDEN.check("grad__quantize.embedding.weight", by_name["quantize.embedding.weight"])
    kernel = rearrange(by_name["quant_conv.weight"], "h w i o -> o i h w")
    GOLDEN.check("grad__quant_conv.weight", kernel)


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
