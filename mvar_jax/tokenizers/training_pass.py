"""What a quantizer and a tokenizer give to their training, and losses of a random depth."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Int
from mvar_jax.tokenizers.base import Tokens


class QuantizedScale(NamedTuple):
    """The result of quantizing one scale."""

    tokens: Tokens  # int32 [batch, n_k], or uint8 [batch, n_k, bits]
    running: Array  # [batch, h, w, code], the sum of all scales so far
    next_input: Array | None  # [batch, n_{k+1}, word], None after the last scale
    left: Array  # [batch, positions, code], what was quantized: the residual at the scale's size


class TrainingPass(NamedTuple):
    """A tokenizer's pass in its training."""

    reconstruction: Array  # [batch, height, width, 3], not clipped
    quantizer_loss: Array  # float32 []
    scales: Sequence[QuantizedScale]


Depth = Int[Array, "batch"] | None
"""How many scales every image keeps, from 1 to all; None: all."""


def kept_sum(
    sums: Sequence[Float[Array, "batch h w code"]], depth: Depth
) -> Float[Array, "batch h w code"]:
    """The sum of the scales that every image keeps, from the sums up to every scale."""
    if depth is None:
        return sums[-1]
    chosen = sums[0]
    for scale, total in enumerate(sums[1:], start=1):
        chosen = jnp.where((depth > scale)[:, None, None, None], total, chosen)
    return chosen


def mean_square(
    difference: Float[Array, "batch h w code"], depth: Depth
) -> Float[Array, ""] | Float[Array, "batch"]:
    """The mean square of a map, of each image by itself where images have depths of their own."""
    return jnp.mean(difference**2, axis=None if depth is None else (1, 2, 3))


def mean_over_kept(losses: Sequence[Array], depth: Depth, weight: float = 1.0) -> Float[Array, ""]:
    """The weighted mean of the losses of all scales, or of those that every image keeps."""
    if depth is None:
        return weight * jnp.asarray(sum(losses)) / len(losses)
    kept = jnp.arange(len(losses))[:, None] < depth  # [scales, batch]
    return weight * jnp.mean(jnp.sum(jnp.where(kept, jnp.stack(losses), 0), axis=0) / depth)
