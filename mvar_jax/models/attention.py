"""Self-attention inside a scale (M-VAR) or over the history (VAR)."""

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange

from mvar_jax.cache import LayerCache
from mvar_jax.config import ModelConfig
from mvar_jax.models.context import ScaleContext
from mvar_jax.models.layers import Projection, linear_std
from mvar_jax.ops.attention import cosine_normalize, scale_attention
from mvar_jax.typing import Array, Float


class SelfAttention(nn.Module):
    """Multi-head attention with the biases and the two scalings of VAR's official code.

    Queries and values have a bias, keys have none. With `qk_norm` queries and keys are
    normalised and queries carry a learned scale per head; without it the softmax scale is a
    quarter of the usual one.
    """

    config: ModelConfig
    reach: str

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch n width"],
        context: ScaleContext,
        cache: LayerCache | None = None,
    ) -> tuple[Float[Array, "batch n width"], LayerCache | None]:
        """Mixes tokens; returns them with the cache that the next scale inherits.

        Without a cache the tokens attend among themselves, scale by scale as `context` and the
        reach say, and the result's cache is None. With one, they are a single scale, and what
        they see and leave behind is the cache's policy.
        """
        config = self.config
        heads, dim = config.heads, config.head_dim
        query, key, value, raw_query = self._project(x)
        scale = config.softmax_scale
        if cache is None:
            mixed = scale_attention(query, key, value, context.slices, scale, self.reach)
        else:
            mixed, cache = cache.attend(query, key, value, raw_query, scale, context.scale)
        std = linear_std(config.width) / (2 * config.depth) ** 0.5
        mixed = rearrange(mixed, "batch heads n dim -> batch n heads dim")
        return Projection((heads, dim), (config.width,), std, name="out")(mixed), cache

    def _project(self, x):
        """Queries, keys, values and bare queries, each [batch, heads, n, dim]."""
        config = self.config
        shape = (config.heads, config.head_dim)
        kernel = self.param(
            "qkv",
            nn.initializers.normal(linear_std(config.width)),
            (config.width, 3, *shape),
        )
        query_bias = self.param("query_bias", nn.initializers.zeros, shape)
        value_bias = self.param("value_bias", nn.initializers.zeros, shape)
        qkv = jnp.tensordot(x, kernel.astype(x.dtype), axes=1)
        raw_query, key, value = rearrange(qkv, "batch n qkv heads dim -> qkv batch heads n dim")
        query = raw_query + query_bias.astype(x.dtype)[:, None]
        value = value + value_bias.astype(x.dtype)[:, None]
        if config.qk_norm:
            start = nn.initializers.constant(jnp.log(4.0))
            query_scale = self.param("query_scale", start, (config.heads,))
            query, key = cosine_normalize(query, key, query_scale)
        return query, key, value, raw_query
