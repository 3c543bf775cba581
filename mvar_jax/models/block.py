"""One block: attention, perhaps a state-space layer and a text's, feed-forward."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from mvar_jax.array_types import Array, Float
from mvar_jax.cache import LayerMemory, SSMState
from mvar_jax.config import BRANCHES, BlockKind, ModelConfig
from mvar_jax.models.attention import SelfAttention
from mvar_jax.models.conditioner import Embedded, Text
from mvar_jax.models.context import ScaleContext
from mvar_jax.models.cross_attention import CrossAttention, TextKeys
from mvar_jax.models.layers import (
    Projection,
    drop_path,
    linear_std,
    modulated_norm,
    product_onto_several,
)
from mvar_jax.models.parameters import FSDP_TENSOR
from mvar_jax.models.state_space import StateSpace
from mvar_jax.ops.module import LayerNorm, Module
from mvar_jax.ops.stored_gradient import stored_gradient


class FeedForward(Module):
    """Two linear layers with a tanh GELU between them."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "batch n width"]) -> Float[Array, "batch n width"]:
        """Maps every token on its own."""
        config = self.config
        hidden, std = config.hidden_width, linear_std(config.width)
        x = Projection((config.width,), (hidden,), std, name="up")(x)
        x = jax.nn.gelu(x, approximate=True)
        std /= (2 * config.depth) ** 0.5
        return Projection((hidden,), (config.width,), std, name="down")(x)


class Modulation(Module):
    """The adaLN projection `Linear(SiLU(condition))` onto `groups` vectors, float32.

    Groups are ordered gates, scales, shifts, each by branch. `factors` scale the groups of the
    initial kernel: `gate` for the first two, `modulation` for the others (see `InitConfig`).
    """

    width: int
    groups: int
    factors: tuple[float, ...]

    @nn.compact
    def __call__(
        self, condition: Float[Array, "batch width"]
    ) -> Float[Array, "batch groups width"]:
        """The modulation vectors of a condition."""

        def start(key, shape):
            kernel = linear_std(self.width) * jax.random.normal(key, shape)
            return kernel * jnp.array(self.factors)[:, None]

        kernel = self.param("kernel", start, (self.width, self.groups, self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.groups, self.width))
        return product_onto_several(jax.nn.silu(condition), kernel, FSDP_TENSOR) + bias


def modulation_factors(config: ModelConfig, groups: int) -> tuple[float, ...]:
    """The factor that each group of a block's modulation is scaled by at initialisation."""
    return (config.init.gate,) * 2 + (config.init.modulation,) * (groups - 2)


class BlockCondition(NamedTuple):
    """What a block takes from the condition; it is the same at every scale."""

    modulation: Array  # gates, scales and shifts of every branch, float32 [batch, groups, width]
    text: TextKeys | None = None  # of cross-attention


class Drops(NamedTuple):
    """Stochastic depth of one block: its rate, and a draw from 0 to 1 per branch and image."""

    rate: Array  # float32 scalar
    draws: Array  # by index in `BRANCHES`, float32 [branches, batch]


class Block(Module):
    """A residual block of the given kind.

    `x + gate * branch(LN(x) * (1 + scale) + shift)` for attention, the state-space layer if the
    kind has one, and the feed-forward (M-VAR, arXiv 2411.10433; VAR, arXiv 2404.02905). Before the
    feed-forward a text is attended to, if the kind has one, after a layer norm with scale and bias,
    without modulation and gate (Infinity, arXiv 2412.04431).
    """

    config: ModelConfig
    kind: BlockKind

    def setup(self):
        """The branches, and the modulation unless the trunk shares one."""
        config, groups = self.config, self.kind.groups
        self.attention = SelfAttention(config, self.kind.attention_reach)
        if self.kind.ssm:
            self.ssm = StateSpace(config)
        if self.kind.text:
            self.cross_norm = LayerNorm(config.norm_epsilon, use_fast_variance=False)
            self.cross_attention = CrossAttention(config)
        self.ffn = FeedForward(config)
        factors = modulation_factors(config, groups)
        if config.shared_modulation:

            def start(key, shape):
                offset = jax.random.normal(key, shape) * config.width**-0.5
                return offset * jnp.array(factors)[:, None]

            self.modulation_offset = self.param("modulation_offset", start, (groups, config.width))
        else:
            self.modulation = Modulation(config.width, groups, factors)

    def prepare(
        self,
        condition: Embedded,
        shared: Float[Array, "batch groups width"] | None = None,
    ) -> BlockCondition:
        """What the block takes from the condition, or from the shared modulation."""
        if self.config.shared_modulation:
            modulation = shared + self.modulation_offset
        else:
            modulation = self.modulation(condition.vectors)
        text = self.cross_attention.prepare(condition.text) if self.kind.text else None
        return BlockCondition(modulation, text)

    def __call__(
        self,
        x: Float[Array, "batch n width"],
        condition: BlockCondition,
        context: ScaleContext,
        memory: LayerMemory | None = None,
        drops: Drops | None = None,
    ) -> tuple[Float[Array, "batch n width"], LayerMemory | None]:
        """Mixes the tokens; returns them and the memory for the next scale.

        `memory` None is the teacher-forced pass over all scales; otherwise x is one scale and
        `memory` that of all earlier scales. Without `drops` no branch is dropped.
        """
        vectors = rearrange(condition.modulation, "b (three g) c -> three g b c", three=3)
        gates, scales, shifts = vectors
        cache, state = (None, None) if memory is None else (memory.cache, memory.ssm)

        def residual(x, branch, mixer, *arguments):
            x = stored_gradient(x)
            i = self.kind.branches.index(branch)
            mixed = modulated_norm(x, scales[i], shifts[i], self.config.norm_epsilon)
            mixed, carried = mixer(mixed, *arguments)
            mixed = mixed * gates[i][:, None].astype(x.dtype)
            if drops is not None:
                mixed = drop_path(mixed, drops.rate, drops.draws[BRANCHES.index(branch)])
            return x + mixed, carried

        x, cache = residual(x, "attention", self.attention, context, cache)
        if self.kind.ssm:
            x, state = residual(x, "ssm", self.ssm, state)
        if self.kind.text:
            x = stored_gradient(x)
            normal = self.cross_norm(x).astype(x.dtype)
            x = x + self.cross_attention(normal, condition.text)
        x, _ = residual(x, "ffn", lambda x: (self.ffn(x), None))
        return x, None if memory is None else LayerMemory(cache, state)

    def initialize(self) -> None:
        """Uses every parameter once, for `init`."""
        x = jnp.zeros((1, 1, self.config.width))
        text = Text(x, jnp.ones((1, 1), bool)) if self.kind.text else None
        condition = Embedded(jnp.zeros((1, self.config.width)), text)
        shared = jnp.zeros((1, self.kind.groups, self.config.width))
        self(x, self.prepare(condition, shared), ScaleContext.single())


def empty_state(config: ModelConfig, batch: int, dtype: jnp.dtype) -> SSMState:
    """The state of a block's state-space layer before the first scale."""
    ssm, heads = config.ssm, config.ssm_heads
    return SSMState.zeros(batch, heads, ssm.head_dim, ssm.state_size, ssm.conv_size, dtype)
