"""The encoder of T5 v1.1, whose features of a prompt Infinity conditions on.

Raffel et al., arXiv 1910.10683; v1.1 and Flan-T5 have a gated feed-forward (Shazeer, arXiv
2002.05202). No layer has a bias.
"""

import dataclasses
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from mvar_jax.array_types import Array, Bool, Float, Int
from mvar_jax.checks import check
from mvar_jax.mesh.axes import constrain
from mvar_jax.ops.attention import biased_attention
from mvar_jax.ops.module import Module
from mvar_jax.ops.relative_position import relative_bias


@dataclass(frozen=True)
class T5Config:
    """The sizes of an encoder; `heads * head_dim` need not be `width`."""

    vocabulary: int  # rows of the embedding, more than there are tokens
    width: int
    head_dim: int
    hidden: int  # channels inside the feed-forward
    layers: int
    heads: int
    buckets: int = 32  # of relative positions
    max_distance: int = 128
    norm_epsilon: float = 1e-6
    compute_dtype: str = "float32"  # or "bfloat16"

    def __post_init__(self):
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.type is int:
                check(value >= 1, f"{item.name}: got {value}, expected at least 1.")
        check(
            self.buckets % 2 == 0 and self.max_distance > self.buckets // 4 >= 1,
            f"buckets: got {self.buckets} for a max_distance of {self.max_distance}, expected an "
            "even number from 4 to below four times that distance.",
        )
        check(
            self.compute_dtype in ("float32", "bfloat16"),
            f"compute_dtype: got {self.compute_dtype!r}, expected 'float32' or 'bfloat16'.",
        )

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of matmuls."""
        return jnp.dtype(self.compute_dtype)


def _flan(width: int, hidden: int, layers: int, heads: int) -> T5Config:
    return T5Config(32128, width, 64, hidden, layers, heads)


FLAN_T5 = {
    "small": _flan(512, 1024, 8, 6),
    "base": _flan(768, 2048, 12, 12),
    "large": _flan(1024, 2816, 24, 16),
    "xl": _flan(2048, 5120, 24, 32),
    "xxl": _flan(4096, 10240, 24, 64),
}
"""The published sizes; Infinity uses "xl"."""


class T5Norm(Module):
    """`scale * x / sqrt(mean(x^2) + epsilon)`, in float32: no mean is subtracted."""

    config: T5Config

    @nn.compact
    def __call__(self, x: Float[Array, "batch n width"]) -> Float[Array, "batch n width"]:
        """Normalises; the result is float32."""
        scale = self.param("scale", nn.initializers.ones, (self.config.width,))
        x = x.astype(jnp.float32)
        squares = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(squares + self.config.norm_epsilon) * scale.astype(jnp.float32)


class T5Attention(Module):
    """Self-attention with a bias by relative position, and without 1 / sqrt(dim)."""

    config: T5Config

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch n width"],
        bias: Float[Array, "heads n n"],
        mask: Bool[Array, "batch n"],
    ) -> Float[Array, "batch n width"]:
        """Mixes the tokens where `mask`; the result is float32."""
        config, width = self.config, self.config.width
        shape, start = (config.heads, config.head_dim), nn.initializers.normal(width**-0.5)

        def project(name):
            kernel = self.param(name, start, (width, *shape))
            flat = _product(x.astype(config.dtype), kernel, config.dtype)
            return rearrange(flat, "b n (heads dim) -> b heads n dim", heads=config.heads)

        query, key, value = map(project, ("query", "key", "value"))
        mixed = biased_attention(query, key, value, bias, mask)
        kernel = self.param("out", start, (*shape, width))
        return _product(rearrange(mixed, "b heads n dim -> b n (heads dim)"), kernel, jnp.float32)


class T5FeedForward(Module):
    """`(gelu(x gate) * (x up)) down`, with the GELU by tanh."""

    config: T5Config

    @nn.compact
    def __call__(self, x: Float[Array, "batch n width"]) -> Float[Array, "batch n width"]:
        """Every token by itself; the result is float32."""
        config, start = self.config, nn.initializers.normal(self.config.width**-0.5)
        shape, x = (config.width, config.hidden), x.astype(config.dtype)
        gate = _product(x, self.param("gate", start, shape), config.dtype)
        up = _product(x, self.param("up", start, shape), config.dtype)
        start = nn.initializers.normal(config.hidden**-0.5)
        down = self.param("down", start, shape[::-1])
        return _product(nn.gelu(gate, approximate=True) * up, down, jnp.float32)


class T5Block(Module):
    """A layer: attention and feed-forward, each of the norm of its input and added to it."""

    config: T5Config

    def setup(self):
        """Its parts."""
        self.attention_norm = T5Norm(self.config)
        self.attention = T5Attention(self.config)
        self.ffn_norm = T5Norm(self.config)
        self.ffn = T5FeedForward(self.config)

    def __call__(
        self,
        x: Float[Array, "batch n width"],
        bias: Float[Array, "heads n n"],
        mask: Bool[Array, "batch n"],
    ) -> Float[Array, "batch n width"]:
        """The tokens after the layer, float32."""
        x = x + self.attention(self.attention_norm(x), bias, mask)
        x = x + self.ffn(self.ffn_norm(x))
        return constrain(x, "activation")


class T5(Module):
    """The encoder: embeddings, layers under one scan, a last norm.

    `layers` stacks the parameters of all layers on axis 0. Parameters may be stored in float32 or
    in the compute dtype. What is added up over layers is float32 in either.
    """

    config: T5Config

    def setup(self):
        """Embeddings, the bias that all layers share, stacked layers, norm."""
        config, start = self.config, nn.initializers.normal(1.0)
        shape = (config.vocabulary, config.width)
        self.token_embedding = self.param("token_embedding", start, shape)
        shape = (config.buckets, config.heads)
        self.position_bias = self.param("position_bias", start, shape)
        self.layers = self.param("layers", self._stacked)
        self.final_norm = T5Norm(config)

    def __call__(
        self, tokens: Int[Array, "batch n"], mask: Bool[Array, "batch n"]
    ) -> Float[Array, "batch n width"]:
        """The features of every token, float32, and 0 where there is none.

        Those of a prompt depend neither on the other prompts nor on what its padding holds.
        """
        x, bias, block = self.embed(tokens), self.bias(tokens.shape[1]), self.block

        def step(x, params):
            return block.apply({"params": params}, x, bias, mask), None

        x, _ = jax.lax.scan(step, x, self.layers)
        return jnp.where(mask[..., None], self.final_norm(x), 0)

    def embed(self, tokens: Int[Array, "batch n"]) -> Float[Array, "batch n width"]:
        """The embeddings of tokens, float32; T5 neither scales them nor adds positions."""
        return constrain(self.token_embedding[tokens].astype(jnp.float32), "activation")

    def bias(self, n: int) -> Float[Array, "heads n n"]:
        """What every layer adds to the logits of its attention, float32."""
        table = self.position_bias.astype(jnp.float32)
        return relative_bias(table, n, self.config.max_distance)

    @property
    def block(self) -> T5Block:
        """An unbound layer; parameters are given when it is applied."""
        return T5Block(self.config, parent=None)

    def _stacked(self, key):
        """Initial parameters of all layers."""
        n, width = 1, self.config.width
        inputs = (
            jnp.zeros((1, n, width)),
            jnp.zeros((self.config.heads, n, n)),
            jnp.ones((1, n), bool),
        )
        keys = jax.random.split(key, self.config.layers)
        return jax.vmap(lambda key: self.block.init(key, *inputs)["params"])(keys)


def _product(x, kernel, dtype):
    """Matmul of the last axis with a kernel whose axes but those of x are flattened into one."""
    kernel = kernel.reshape(x.shape[-1], -1).astype(x.dtype)
    return jnp.matmul(x, kernel, preferred_element_type=dtype)
