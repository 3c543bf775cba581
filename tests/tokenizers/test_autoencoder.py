import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from mvar_jax.convert.names import read_params
from mvar_jax.convert.tokenizer_names import attention_entries, block_entries, conv_entries
from mvar_jax.tokenizers.autoencoder import Decoder, Encoder
from mvar_jax.tokenizers.layers import Downsample, ResidualBlock, SpatialAttention, Upsample
from tests.reference import load_golden, recipe_weights
from tests.tokenizers.weights import recipe_params

GOLDEN = load_golden("comp_vae")


@pytest.mark.parametrize(
    "name,layer,entries",
    [
        ("resnet", ResidualBlock(128, 32), block_entries("vae_resnet", ("top",), 64, 128)),
        ("resnet_same", ResidualBlock(64, 32), block_entries("vae_resnet_same", ("top",), 64, 64)),
        ("attn", SpatialAttention(32), attention_entries("vae_attn", ("top",), 64)),
        ("up", Upsample(), conv_entries("vae_up.conv", ("top", "conv"), 64, 64)),
        ("down", Downsample(), conv_entries("vae_down.conv", ("top", "conv"), 64, 64)),
    ],
)
def test_layers_are_the_reference(name, layer, entries):
    entries = list(entries)
    weights = recipe_weights({entry.official: entry.official_shape for entry in entries})
    params = read_params(entries, weights)["top"]
    maps = jnp.asarray(rearrange(GOLDEN["x"], "b c h w -> b h w c"))
    result = layer.apply({"params": params}, maps)
    GOLDEN.check(f"{name}_out", rearrange(result, "b h w c -> b c h w"))


def test_a_strided_stem_folds_and_unfolds_patches(tiny_config):
    encoder, decoder = Encoder(tiny_config), Decoder(tiny_config)
    params = recipe_params(tiny_config)
    images = jax.random.normal(jax.random.key(0), (2, 16, 24, 3))
    latent = jax.jit(encoder.apply)({"params": params["encoder"]}, images)
    assert latent.shape == (2, 2, 3, 4)
    assert params["encoder"]["conv_in"]["kernel"].shape == (4, 4, 3, 8)

    right_half = jnp.zeros(48).at[np.r_[6:12, 18:24, 30:36, 42:48]].set(1)  # (down, right, rgb)
    head = params["decoder"]["conv_out"]
    params["decoder"]["conv_out"] = jax.tree.map(lambda weights: weights * right_half, head)
    result = jax.jit(decoder.apply)({"params": params["decoder"]}, latent)
    assert result.shape == images.shape
    patches = rearrange(result, "b (h d) (w r) c -> b h w d r c", d=4, r=4)
    np.testing.assert_array_equal(patches[..., :2, :], 0)
    assert np.all(np.abs(patches[..., 2:, :]).max(axis=(0, 1, 2)) > 0)


def test_attention_can_be_left_out(tiny_config):
    def names(attention):
        config = dataclasses.replace(tiny_config, attention=attention)
        shapes = jax.eval_shape(Encoder(config).init, jax.random.key(0), jnp.zeros((1, 16, 24, 3)))
        return {"/".join(key.key for key in path) for path, _ in jax.tree.leaves_with_path(shapes)}

    removed = names(True) - names(False)
    assert removed and all("attention" in name for name in removed)
    assert names(False) < names(True)
