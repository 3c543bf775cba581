"""How a trunk embeds texts: one vector for all blocks, and tokens for cross-attention."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from mvar_jax.array_types import Array, Bool, Float
from mvar_jax.checks import check
from mvar_jax.config import ModelConfig
from mvar_jax.models.conditioner import Embedded, Text
from mvar_jax.models.layers import Projection, linear_std
from mvar_jax.ops.attention import attention
from mvar_jax.ops.module import Module
from mvar_jax.text.features import TextFeatures

NORM_EPSILON = 1e-6
NULL_STD = 1.2


class TextConditioner(Module):
    """Embeds texts (Infinity, arXiv 2412.04431, section 3).

    Features are normalised by their root mean square. A learned query pools them into one vector;
    two linear layers with a tanh GELU between them make the tokens of cross-attention. The
    unconditional text has learned features, as many as the text that it stands for. All
    computation is float32.
    """

    config: ModelConfig

    def setup(self):
        """The unconditional features, the norm, pooling and projection."""
        text, width = self.config.text, self.config.width
        std = NULL_STD * text.channels**-0.5
        shape = (text.max_length, text.channels)
        self.null_features = self.param("null_features", nn.initializers.normal(std), shape)
        self.norm_scale = self.param("norm_scale", nn.initializers.ones, (text.channels,))
        self.pool = TextPool(self.config)
        self.up = Projection((text.channels,), (width,), linear_std(width))
        self.down = Projection((width,), (width,), linear_std(width))

    def null(self, condition: TextFeatures) -> TextFeatures:
        """The unconditional texts, of the lengths of those given.

        Raises ValueError for more tokens, padding included, than the config allows.
        """
        batch, length, channels = condition.features.shape
        most = self.config.text.max_length
        check(
            length <= most and channels == self.config.text.channels,
            f"text: got features of {length} tokens with {channels} channels, expected at most "
            f"{most} with {self.config.text.channels}; use the text encoder of the model.",
        )
        rows = jnp.broadcast_to(self.null_features[:length], (batch, length, channels))
        return TextFeatures(rows, condition.mask)

    def embed(self, condition: TextFeatures) -> Embedded:
        """The vectors and tokens of texts."""
        normal = self.normalize(jnp.asarray(condition.features))
        mask = jnp.asarray(condition.mask)
        tokens = self.down(jax.nn.gelu(self.up(normal), approximate=True))
        return Embedded(self.pool(normal, mask), Text(tokens, mask))

    def normalize(
        self, features: Float[Array, "batch length channels"]
    ) -> Float[Array, "batch length channels"]:
        """Features divided by their root mean square, times a learned scale."""
        features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
        square = jnp.mean(jnp.square(features), axis=-1, keepdims=True)
        return features * jax.lax.rsqrt(square + NORM_EPSILON) * self.norm_scale


class TextPool(Module):
    """Attention of one learned query over the tokens of a text: one vector."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch length channels"], mask: Bool[Array, "batch length"]
    ) -> Float[Array, "batch width"]:
        """One vector for every text."""
        channels, heads = self.config.text.channels, self.config.pooling_heads
        shape, std = (heads, self.config.width // heads), linear_std(self.config.width)
        query = self.param("query", nn.initializers.normal(std), shape)
        key_value = Projection((channels,), (2, *shape), std, bias=False, name="key_value")
        value_bias = self.param("value_bias", nn.initializers.zeros, shape)
        joined = key_value(features)
        order = "batch length (two heads dim) -> two batch heads length dim"
        key, value = rearrange(joined, order, two=2, heads=heads)
        query = jnp.broadcast_to(query[None, :, None], (len(features), heads, 1, shape[1]))
        pooled = attention(
            query,
            key,
            value + value_bias[:, None],
            softmax_scale=shape[1] ** -0.5,
            mask=mask,
            implementation="xla",  # with one query there are no logits to save
        )
        pooled = rearrange(pooled, "batch heads one dim -> batch (one heads dim)")
        return Projection(shape, (self.config.width,), std, name="out")(pooled)
