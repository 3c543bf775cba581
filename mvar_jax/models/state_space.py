"""The Mamba-2 layer that mixes tokens across scales."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from mvar_jax.array_types import Array, Float
from mvar_jax.cache import SSMState
from mvar_jax.config import ModelConfig
from mvar_jax.models.layers import Projection, linear_std
from mvar_jax.ops.causal_conv import causal_conv
from mvar_jax.ops.module import Module
from mvar_jax.ops.ssd import ssd

NORM_EPSILON = 1e-5
DT_RANGE = (1e-3, 0.1)  # of the initial step sizes
DT_FLOOR = 1e-4
DECAY_RANGE = (1.0, 16.0)  # of the initial -A
CONV_STD = 0.02


class StateSpace(Module):
    """A selective state-space layer with one group (Mamba-2, arXiv 2405.21060, section 7).

    Projections to gate z, input x, write b, read c and step dt; a short causal convolution over
    x, b and c; the state-space recurrence; a gated RMS norm; the output projection. Step sizes,
    decays and the state are float32 at least.
    """

    config: ModelConfig

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "batch n width"], memory: SSMState | None = None
    ) -> tuple[Float[Array, "batch n width"], SSMState | None]:
        """Runs over the tokens in order; returns the outputs and the state for later tokens.

        `memory` None is the teacher-forced pass: it starts from a zero state and returns no state.
        """
        width, ssm, heads = self.config.width, self.config.ssm, self.config.ssm_heads
        std = linear_std(width)
        zx = Projection((width,), (2, heads, ssm.head_dim), std, bias=False, name="in_zx")
        z, x = zx.apart(tokens) if memory is None else jnp.split(zx(tokens), 2, axis=2)
        bc = Projection((width,), (2, ssm.state_size), std, bias=False, name="in_bc")(tokens)
        dt = Projection((width,), (heads,), std, bias=False, name="in_dt")(tokens)
        tail_x, tail_bc, state = (
            (None, None, None) if memory is None else (memory.tail_x, memory.tail_bc, memory.state)
        )
        x, tail_x = self._convolve("conv_x", x, (heads, ssm.head_dim), tail_x)
        bc, tail_bc = self._convolve("conv_bc", bc, (2, ssm.state_size), tail_bc)
        b, c = jnp.split(bc, 2, axis=2)
        y, state = self._recur(x, dt, b, c, state)
        y = self._gated_norm(y, z)
        out = Projection((heads, ssm.head_dim), (width,), std, bias=False, name="out")(y)
        return out, None if memory is None else SSMState(tail_x, tail_bc, state)

    def _convolve(self, name, x, channels, tail):
        """Causal convolution and SiLU."""
        mixed, tail = DepthwiseConv(self.config.ssm.conv_size, channels, name=name)(x, tail)
        return jax.nn.silu(mixed), tail

    def _recur(self, x, dt, b, c, state):
        """The recurrence with its skip; x is [batch, n, inner]."""
        ssm, heads = self.config.ssm, dt.shape[2]
        dt_bias = self.param("dt_bias", _initial_dt_bias, (heads,))
        decay = self.param("A_log", _initial_log_decay, (heads,))
        skip = self.param("D", nn.initializers.ones, (heads,))
        dtype = jnp.promote_types(x.dtype, jnp.float32)
        dt = jax.nn.softplus(dt.astype(dtype) + dt_bias)
        y, state = ssd(
            rearrange(x, "b n (h d) -> b n h d", h=heads),
            dt,
            -jnp.exp(decay),
            b,
            c,
            skip=skip,
            initial=state,
            return_state=state is not None,
            chunk=ssm.chunk,
            implementation=self.config.kernels if state is None else "auto",
        )
        return rearrange(y, "b n h d -> b n (h d)"), state

    def _gated_norm(self, y, z):
        """RMS norm of `y * silu(z)` over the whole inner width."""
        ssm = self.config.ssm
        shape = (y.shape[2] // ssm.head_dim, ssm.head_dim)
        weight = self.param("norm_scale", nn.initializers.ones, shape).reshape(-1)
        dtype = jnp.promote_types(y.dtype, jnp.float32)
        gated = y.astype(dtype) * jax.nn.silu(z.astype(dtype))
        square = jnp.mean(jnp.square(gated), axis=-1, keepdims=True)
        return (gated * jax.lax.rsqrt(square + NORM_EPSILON) * weight).astype(y.dtype)


class DepthwiseConv(Module):
    """Parameters of a causal convolution, `kernel` `[taps, *channels]` and `bias` `[*channels]`."""

    taps: int
    channels: tuple[int, ...]

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch n channels"], tail: Float[Array, "batch tail channels"] | None
    ) -> tuple[Float[Array, "batch n channels"], Float[Array, "batch tail channels"]]:
        """Convolves tokens that follow the carried tail; returns the new tail too."""
        start = nn.initializers.normal(CONV_STD)
        kernel = self.param("kernel", start, (self.taps, *self.channels)).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, self.channels).astype(x.dtype)
        return causal_conv(x, kernel.reshape(self.taps, -1), bias.reshape(-1), tail)


def _initial_dt_bias(key, shape):
    """Inverse softplus of step sizes that are log-uniform in DT_RANGE (as in Mamba-2)."""
    low, high = jnp.log(jnp.array(DT_RANGE))
    dt = jnp.maximum(jnp.exp(jax.random.uniform(key, shape, minval=low, maxval=high)), DT_FLOOR)
    return dt + jnp.log(-jnp.expm1(-dt))


def _initial_log_decay(key, shape):
    low, high = DECAY_RANGE
    return jnp.log(jax.random.uniform(key, shape, minval=low, maxval=high))
