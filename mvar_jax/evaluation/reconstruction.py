"""Images through a model's tokenizer and back."""

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Float, HostArray
from mvar_jax.sampling.model import Model


def reconstruct(
    model: Model, images: Float[HostArray, "batch height width_px 3"]
) -> Float[jax.Array, "batch height width_px 3"]:
    """Decodes the quantized features of images in [-1, 1], all at once; clipped to [-1, 1]."""
    variables = {"params": model.weights.tokenizer}
    return jnp.clip(jax.jit(model.tokenizer.apply)(variables, images)[0], -1, 1)
