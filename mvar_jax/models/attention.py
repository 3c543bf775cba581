"""Self-attention inside a scale (M-VAR) or over the history (VAR)."""

import flax.linen as nn
import jax.numpy as jnp

from mvar_jax.cache import KVCache
from mvar_jax.config import ModelConfig
from mvar_jax.models.context import ScaleContext
from mvar_jax.models.layers import Projection, linear_std
from mvar_jax.ops.attention import attention, cosine_normalize, scale_attention
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
        cache: KVCache | None = None,
    ) -> tuple[Float[Array, "batch n width"], KVCache | None]:
        """Mixes tokens; returns them with the cache that the next scale inherits.

        Without a cache the tokens are all scales that `context` names and the result's cache is
        None; with one they are a single scale, and a reach of "history" includes the cache. The
        last scale is never appended: nothing would read it.
        """
        config = self.config
        heads, dim = config.heads, config.head_dim
        query, key, value = self._project(x)
        scale = 1.0 if config.qk_norm else 0.25 * dim**-0.5
        if cache is None:
            mixed = scale_attention(query, key, value, context.slices, scale, self.reach)
        else:
            extended = cache.append(key, value)
            mixed = attention(query, extended.key, extended.value, scale)
            cache = cache if context.is_last else extended
        std = linear_std(config.width) / (2 * config.depth) ** 0.5
        return Projection((heads, dim), (config.width,), std, name="out")(mixed), cache

    def _project(self, x):
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
        query = qkv[:, :, 0] + query_bias.astype(x.dtype)
        key = qkv[:, :, 1]
        value = qkv[:, :, 2] + value_bias.astype(x.dtype)
        if config.qk_norm:
            start = nn.initializers.constant(jnp.log(4.0))
            query_scale = self.param("query_scale", start, (config.heads,))
            query, key = cosine_normalize(query, key, query_scale)
        return query, key, value
