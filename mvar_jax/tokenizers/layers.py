"""The building blocks of the convolutional autoencoder."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from flax.linen.dtypes import promote_dtype

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.module import Conv, Dense, GroupNorm, Module
from mvar_jax.ops.upsample import upsampled_convolution
from mvar_jax.ops.winograd import convolve


def group_norm(groups: int, name: str) -> GroupNorm:
    """Group normalisation with scale and bias; the variance is computed in two passes."""
    return GroupNorm(groups, epsilon=1e-6, use_fast_variance=False, name=name)


class ResidualBlock(Module):
    """Two 3x3 convolutions, each after group norm and SiLU, added to their input.

    A 1x1 shortcut adapts the input where the number of channels changes.
    """

    channels: int
    norm_groups: int

    @nn.compact
    def __call__(self, maps: Float[Array, "batch h w _"]) -> Float[Array, "batch h w channels"]:
        """Maps of the same size with `channels` channels."""
        hidden = nn.silu(group_norm(self.norm_groups, "norm_1")(maps))
        hidden = Conv(self.channels, (3, 3), conv_general_dilated=convolve, name="conv_1")(hidden)
        hidden = nn.silu(group_norm(self.norm_groups, "norm_2")(hidden))
        hidden = Conv(self.channels, (3, 3), conv_general_dilated=convolve, name="conv_2")(hidden)
        if maps.shape[-1] != self.channels:
            maps = Dense(self.channels, name="shortcut")(maps)
        return maps + hidden


class SpatialAttention(Module):
    """Self-attention with one head over all positions of a map, added to its input."""

    norm_groups: int

    @nn.compact
    def __call__(
        self, maps: Float[Array, "batch h w channels"]
    ) -> Float[Array, "batch h w channels"]:
        """Maps of the same shape."""
        height, channels = maps.shape[1], maps.shape[-1]
        hidden = group_norm(self.norm_groups, "norm")(maps)
        joined = Dense(3 * channels, name="qkv")(hidden)
        query, key, value = rearrange(joined, "b h w (three c) -> three b (h w) c", three=3)
        scores = jnp.einsum("bnc,bmc->bnm", query, key) * channels**-0.5
        shares = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(value.dtype)
        mixed = jnp.einsum("bnm,bmc->bnc", shares, value)
        mixed = rearrange(mixed, "b (h w) c -> b h w c", h=height)
        return maps + Dense(channels, name="projection")(mixed)


class Downsample(Module):
    """Halves a map with a strided 3x3 convolution, padded at the bottom and right only."""

    @nn.compact
    def __call__(
        self, maps: Float[Array, "batch h w channels"]
    ) -> Float[Array, "batch _ _ channels"]:
        """Maps `[batch, h / 2, w / 2, channels]`."""
        padding = ((0, 1), (0, 1))
        return Conv(maps.shape[-1], (3, 3), strides=2, padding=padding, name="conv")(maps)


class UpsampledConv(Module):
    """`ops.upsample.upsampled_convolution` with the parameters of a 3x3 convolution."""

    channels: int

    @nn.compact
    def __call__(self, maps: Float[Array, "batch h w _"]) -> Float[Array, "batch _ _ channels"]:
        """Maps `[batch, 2 h, 2 w, channels]`."""
        shape = (3, 3, maps.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        maps, kernel, bias = promote_dtype(maps, kernel, bias)
        return upsampled_convolution(maps, kernel) + bias


class Upsample(Module):
    """Doubles a map by repeating its pixels, then a 3x3 convolution."""

    @nn.compact
    def __call__(
        self, maps: Float[Array, "batch h w channels"]
    ) -> Float[Array, "batch _ _ channels"]:
        """Maps `[batch, 2 h, 2 w, channels]`."""
        return UpsampledConv(maps.shape[-1], name="conv")(maps)


class Middle(Module):
    """The coarsest part of encoder and decoder: a block, attention if `attention`, a block."""

    channels: int
    norm_groups: int
    attention: bool

    @nn.compact
    def __call__(
        self, maps: Float[Array, "batch h w channels"]
    ) -> Float[Array, "batch h w channels"]:
        """Maps of the same shape."""
        maps = ResidualBlock(self.channels, self.norm_groups, name="block_0")(maps)
        if self.attention:
            maps = SpatialAttention(self.norm_groups, name="attention")(maps)
        return ResidualBlock(self.channels, self.norm_groups, name="block_1")(maps)
