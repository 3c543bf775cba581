import jax
import jax.numpy as jnp

from mvar_jax.config import TokenizerConfig
from mvar_jax.convert.tokenizer_names import tokenizer_entries, tokenizer_params
from tests.reference import recipe_weights


def recipe_params(config):
    """A tokenizer's parameters, with values that follow from their official names."""
    shapes = {entry.official: entry.official_shape for entry in tokenizer_entries(config)}
    return jax.tree.map(jnp.asarray, tokenizer_params(recipe_weights(shapes), config))


def bitwise_config(patch):
    """A tiny bitwise tokenizer of wide images, whose tokens fold `patch` x `patch` positions."""
    return TokenizerConfig(
        quantizer="bsq",
        image_size=(16, 24),
        scales=((1, 1), (2, 2), (2, 3)),
        patch=patch,
        code_channels=6,
        base_channels=8,
        channel_multipliers=(1, 2) if patch == 1 else (1,),
        blocks_per_level=1,
        stem_stride=4,
        norm_groups=4,
        attention=False,
    )
