"""Cross-attention from the tokens of an image to those of a text."""

from typing import NamedTuple

import flax.linen as nn
from einops import rearrange

from mvar_jax.array_types import Array, Float
from mvar_jax.config import ModelConfig
from mvar_jax.models.conditioner import Text
from mvar_jax.models.layers import Projection, linear_std
from mvar_jax.ops.attention import ATTENTION, attention
from mvar_jax.ops.module import Module


class TextKeys(NamedTuple):
    """What a block attends to in the texts; made once, the same at every scale."""

    key: Array  # [batch, heads, length, dim]
    value: Array  # [batch, heads, length, dim]
    mask: Array  # bool [batch, length]


class CrossAttention(Module):
    """Multi-head attention over a text.

    Queries and values have a bias, keys have none (Infinity, arXiv 2412.04431, section 3).
    """

    config: ModelConfig

    def setup(self):
        """The projections."""
        config, shape = self.config, (self.config.heads, self.config.head_dim)
        std, zeros = linear_std(config.width), nn.initializers.zeros
        self.query = Projection((config.width,), shape, std)
        self.key_value = Projection((config.width,), (2, *shape), std, bias=False)
        self.value_bias = self.param("value_bias", zeros, shape)
        self.out = Projection(shape, (config.width,), std / (2 * config.depth) ** 0.5)

    def prepare(self, text: Text) -> TextKeys:
        """Keys and values of the texts, in the dtype of activations."""
        tokens = text.tokens.astype(self.config.compute_dtype)
        order = "batch length (two heads dim) -> two batch heads length dim"
        key, value = rearrange(self.key_value(tokens), order, two=2, heads=self.config.heads)
        return TextKeys(key, value + self.value_bias[:, None].astype(value.dtype), text.mask)

    def __call__(
        self, x: Float[Array, "batch n width"], text: TextKeys
    ) -> Float[Array, "batch n width"]:
        """What the text adds to every token."""
        config = self.config
        query = self.query(x)
        query = rearrange(query, "batch n (heads dim) -> batch heads n dim", heads=config.heads)
        mixed = attention(
            query,
            text.key,
            text.value,
            softmax_scale=config.head_dim**-0.5,
            mask=text.mask,
            implementation=ATTENTION.own(config.kernels),
        )
        return self.out(rearrange(mixed, "batch heads n dim -> batch n (heads dim)"))
