"""Models of texts are calibrated and compressed like those of classes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.config import Config, ModelConfig, SamplingConfig, TextConfig, TokenizerConfig
from mvar_jax.models import build_trunk, example_inputs
from mvar_jax.models.checksum import embeddings_checksum
from mvar_jax.ops.noise import image_keys
from mvar_jax.sampling import Filters, Model, Request, Sampler, Weights, calibrate
from mvar_jax.text.features import pack
from mvar_jax.tokenizers import BSQTokenizer

WIDTH = 8  # of text features


def tiny_text_model(**changes):
    """Two blocks with rotary positions on a bitwise tokenizer of 8x12 pixels, random weights."""
    config = Config(
        tokenizer=TokenizerConfig(
            quantizer="bsq",
            image_size=(8, 12),
            scales=((1, 1), (1, 2), (2, 3)),
            code_channels=4,
            base_channels=8,
            channel_multipliers=(1,),
            blocks_per_level=1,
            stem_stride=4,
            norm_groups=4,
            attention=False,
        ),
        model=ModelConfig(
            condition="text",
            text=TextConfig(WIDTH, 6),
            depth=2,
            width=16,
            heads=2,
            pattern=("history+text",),
            positions="rotary",
            levels=4,
            shared_modulation=True,
            **changes,
        ),
        sampling=SamplingConfig(guidance=1.0, top_k=0, top_p=0.9),
    )
    trunk, tokenizer = build_trunk(config), BSQTokenizer(config.tokenizer)
    shapes = (
        jax.eval_shape(trunk.init, jax.random.key(0), *example_inputs(trunk)),
        jax.eval_shape(tokenizer.init, jax.random.key(0), jnp.zeros((1, 8, 12, 3))),
    )
    leaves, tree = jax.tree.flatten([shape["params"] for shape in shapes])
    rng = np.random.default_rng(1)
    values = [jnp.asarray(0.4 * rng.standard_normal(x.shape, np.float32)) for x in leaves]
    return Model(config, (), Sampler(trunk, tokenizer), Weights(*jax.tree.unflatten(tree, values)))


@pytest.fixture(scope="module")
def model():
    return tiny_text_model()


@pytest.fixture(scope="module")
def prompts():
    return three_prompts()


def three_prompts():
    rng = np.random.default_rng(2)
    return pack([rng.standard_normal((n, WIDTH), np.float32) for n in (3, 5, 1)], 6, WIDTH)


@pytest.fixture(scope="module")
def profile(model, prompts):
    """Three images, the last batch of one."""
    keys = image_keys(jnp.uint32(0), jnp.arange(3, dtype=jnp.uint32))
    request = Request(prompts, keys, Filters.of(model.config.sampling, 3))
    named = {"checksum": model.checksum, "batch_size": 2}
    return calibrate(model.sampler, model.weights, request, **named).profile


def test_a_model_of_texts_is_calibrated(profile):
    assert profile.samples == 3 and profile.head_variance.shape == (2, 2)
    np.testing.assert_allclose(profile.mass.sum(axis=-1), 1, atol=1e-5)
    assert np.all(profile.key_similarity[:, 0] == 0) and np.all(abs(profile.key_similarity) <= 1)


@pytest.mark.parametrize("policy", ["scalekv", "hack"])
def test_a_model_of_texts_is_compressed(model, prompts, profile, policy):
    settings = {"grid": 1} if policy == "scalekv" else {"initial_scales": 1}
    cut = model.compressed(f"{policy}@before", budget=3, profile=profile, **settings)
    assert max(cut.cache_bytes()) < max(model.cache_bytes()) or policy == "scalekv"
    whole, less = model.sample(prompts, seed=1), cut.sample(prompts, seed=1)
    assert less.images.shape == (3, 8, 12, 3) and np.isfinite(less.images).all()
    np.testing.assert_array_equal(whole.tokens[0], less.tokens[0])  # nothing is cut there
    assert whole.tokens[-1].shape == less.tokens[-1].shape == (3, 6, 4)


def test_a_profile_of_other_weights_is_refused(model, profile):
    for other in (
        replace(profile, checksum="other"),
        replace(profile, checksum="other", format="mvar_jax attention profile 1"),
    ):
        with pytest.raises(ValueError, match="made for the weights other"):
            model.compressed("hack", budget=4, profile=other)
    assert len(embeddings_checksum(model.weights.trunk)) == 16


def test_a_model_of_texts_drafts(model, prompts):
    """For itself, with a negative prompt and guidance inside the blocks."""
    settings = {"negative": prompts.rows(np.array([0])), "guidance_layer": 1}
    both = model.drafted(model, scales=2)
    alone, drafted = (each.sample(prompts, seed=1, **settings) for each in (model, both))
    for one, other in zip(alone.tokens, drafted.tokens, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_a_draft_of_texts_does_not_take_is_named(model, prompts):
    short = of_trunk(model, text=TextConfig(WIDTH, 5))
    with pytest.raises(ValueError, match="texts of at most 5 tokens with 8 channels, expected one"):
        model.drafted(short, scales=1)
    both = model.drafted(of_trunk(model, depth=1), scales=1)
    with pytest.raises(ValueError, match="guidance_layer: got 1, expected less than the 1 blocks"):
        both.sample(prompts, guidance_layer=1)
    with pytest.raises(ValueError, match="a policy or a draft already"):
        both.reshaped(aspect="2")
    with pytest.raises(ValueError, match="prompts: got an empty one, which the model and its dra"):
        replace(both, text_encoder=Encoder(prompts)).sample("")


def of_trunk(model, **settings):
    """The model with other settings of its trunk."""
    trunk = replace(model.trunk, config=replace(model.trunk.config, **settings))
    return replace(model, sampler=replace(model.sampler, trunk=trunk))


class Encoder:
    """Gives the same features for all prompts."""

    name, width, max_length = "constant", WIDTH, 6

    def __init__(self, prompts):
        self.prompts = prompts

    def encode(self, prompts):
        return self.prompts.rows(np.zeros(len(prompts), int))
