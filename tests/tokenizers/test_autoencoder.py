import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from mvar_jax.tokenizers.autoencoder import Decoder, Encoder
from tests.tokenizers.weights import recipe_params


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
