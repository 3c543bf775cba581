"""Self-attention inside a scale (M-VAR) or over the history (VAR)."""

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange

from mvar_jax.array_types import Array, Float
from mvar_jax.cache import LayerCache
from mvar_jax.config import ModelConfig
from mvar_jax.models.context import ScaleContext
from mvar_jax.models.layers import Projection, flat_product, linear_std, product_onto_several
from mvar_jax.ops.attention import ATTENTION, cosine_normalize
from mvar_jax.ops.module import Module
from mvar_jax.ops.scale_attention import SCALE_ATTENTION, scale_attention


class SelfAttention(Module):
    """Multi-head attention with the biases and the two scalings of VAR's official code.

    Queries and values have a bias, keys have none. With `qk_norm` queries and keys are
    normalised and queries carry a learned scale per head; without it the softmax scale is a
    quarter of the usual one. With rotary positions both are rotated after their normalisation.
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

        Without a cache the tokens attend to each other, scale by scale, as `context` and the
        reach say, and the returned cache is None. With a cache they are a single scale; its policy
        decides what they attend to and what is kept for the next scale.
        """
        config = self.config
        shape = (config.heads, config.head_dim)
        *projection, query_scale = self._parameters(shape)
        angles = context.angles(config.head_dim) if config.positions == "rotary" else None
        if cache is None:
            mixed = self._among_themselves(x, context.slices, projection, query_scale, angles)
        else:
            assert context.scale is not None  # a cache is for one scale at a time
            query, key, value, raw_query = self._project(x, *projection)
            if query_scale is not None:
                query, key = cosine_normalize(query, key, query_scale, angles)
            implementation = ATTENTION.own(config.kernels)
            mixed, cache = cache.attend(
                query, key, value, raw_query, config.softmax_scale, context.scale, implementation
            )
        mixed = rearrange(mixed, "batch heads n dim -> batch n (heads dim)")
        std = linear_std(config.width) / (2 * config.depth) ** 0.5
        return Projection(shape, (config.width,), std, name="out")(mixed), cache

    def _parameters(self, shape):
        config = self.config
        start = nn.initializers.normal(linear_std(config.width))
        kernel = self.param("qkv", start, (config.width, 3, *shape))
        query_bias = self.param("query_bias", nn.initializers.zeros, shape)
        value_bias = self.param("value_bias", nn.initializers.zeros, shape)
        query_scale = None
        if config.qk_norm:
            start = nn.initializers.constant(jnp.log(4.0))
            query_scale = self.param("query_scale", start, shape[:1])
        return kernel, query_bias, value_bias, query_scale

    def _among_themselves(self, x, slices, projection, query_scale, angles):
        """Attention without a cache, [batch, heads, n, dim]."""
        config = self.config
        picked = SCALE_ATTENTION.pick(config.kernels, heads=config.heads, dim=config.head_dim)
        project = self._project_apart if picked.flat_heads else self._project
        query, key, value, *_ = project(x, *projection)
        if angles is not None:
            query, key = cosine_normalize(query, key, query_scale, angles)
            query_scale = None  # implementations need not normalise again
        return scale_attention(
            query,
            key,
            value,
            slices=slices,
            softmax_scale=config.softmax_scale,
            reach=self.reach,
            log_scale=query_scale,
            implementation=picked.name,
        )

    def _project_apart(self, x, kernel, query_bias, value_bias):
        """Queries, keys and values by one matmul each, onto [batch, n, heads * dim], rearranged."""
        query, key, value = (flat_product(x, kernel[:, i]) for i in range(3))
        query = query + query_bias.reshape(-1).astype(x.dtype)
        value = value + value_bias.reshape(-1).astype(x.dtype)
        order, heads = "batch n (heads dim) -> batch heads n dim", self.config.heads
        return (rearrange(array, order, heads=heads) for array in (query, key, value))

    def _project(self, x, kernel, query_bias, value_bias):
        """Queries, keys, values and raw queries, each [batch, heads, n, dim], by one matmul.

        Raw queries are those before the bias.
        """
        qkv = product_onto_several(x, kernel, "tensor")
        raw_query, key, value = rearrange(qkv, "batch n qkv heads dim -> qkv batch heads n dim")
        query = raw_query + query_bias.astype(x.dtype)[:, None]
        value = value + value_bias.astype(x.dtype)[:, None]
        return query, key, value, raw_query
