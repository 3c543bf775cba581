import jax
import jax.numpy as jnp

from mvar_jax.convert.tokenizer_names import tokenizer_entries, tokenizer_params
from tests.reference import recipe_weights


def recipe_params(config):
    """A tokenizer's parameters, with values that follow from their official names."""
    shapes = {entry.official: entry.official_shape for entry in tokenizer_entries(config)}
    return jax.tree.map(jnp.asarray, tokenizer_params(recipe_weights(shapes), config))
