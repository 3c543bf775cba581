"""The convolutional encoder and decoder between images and latent maps.

With `stem_stride` 1 this is the autoencoder of latent diffusion (arXiv 2112.10752) as VAR uses
it: levels of residual blocks, each half as large as the one before, with attention in the
coarsest level and in the middle. A larger stem stride folds `stem_stride` x `stem_stride` pixels
into channels at the first layer and unfolds them at the last.
"""

import flax.linen as nn
from einops import rearrange

from mvar_jax.array_types import Array, Float
from mvar_jax.config import TokenizerConfig
from mvar_jax.ops.module import Conv, Module
from mvar_jax.tokenizers.layers import (
    Downsample,
    Middle,
    ResidualBlock,
    SpatialAttention,
    Upsample,
    group_norm,
)

IMAGE_CHANNELS = 3


class Level(Module):
    """Residual blocks at one resolution, each followed by attention if `attention`."""

    channels: int
    blocks: int
    norm_groups: int
    attention: bool

    @nn.compact
    def __call__(self, maps: Float[Array, "batch h w _"]) -> Float[Array, "batch h w channels"]:
        """Maps of the same size with `channels` channels."""
        for i in range(self.blocks):
            maps = ResidualBlock(self.channels, self.norm_groups, name=f"block_{i}")(maps)
            if self.attention:
                maps = SpatialAttention(self.norm_groups, name=f"attention_{i}")(maps)
        return maps


class Encoder(Module):
    """Images to latent maps."""

    config: TokenizerConfig

    @nn.compact
    def __call__(self, images: Float[Array, "batch _ _ 3"]) -> Float[Array, "batch h w code"]:
        """Latent maps of images in [-1, 1], smaller by the config's stride along each side."""
        config, stem = self.config, self.config.stem_stride
        channels = [config.base_channels * multiplier for multiplier in config.channel_multipliers]
        window = (3, 3) if stem == 1 else (stem, stem)
        maps = Conv(config.base_channels, window, strides=stem, name="conv_in")(images)
        for i, width in enumerate(channels):
            coarsest = i + 1 == len(channels)
            attention = config.attention and coarsest
            maps = Level(
                width, config.blocks_per_level, config.norm_groups, attention, name=f"level_{i}"
            )(maps)
            if not coarsest:
                maps = Downsample(name=f"downsample_{i}")(maps)
        maps = Middle(channels[-1], config.norm_groups, config.attention, name="middle")(maps)
        maps = nn.silu(group_norm(config.norm_groups, "norm_out")(maps))
        return Conv(config.code_channels, (3, 3), name="conv_out")(maps)


class Decoder(Module):
    """Latent maps to images. Levels are numbered as in the encoder: 0 is the finest, run last."""

    config: TokenizerConfig

    @nn.compact
    def __call__(self, maps: Float[Array, "batch h w code"]) -> Float[Array, "batch _ _ 3"]:
        """Images, not clipped, larger by the config's stride along each side."""
        config, stem = self.config, self.config.stem_stride
        channels = [config.base_channels * multiplier for multiplier in config.channel_multipliers]
        maps = Conv(channels[-1], (3, 3), name="conv_in")(maps)
        maps = Middle(channels[-1], config.norm_groups, config.attention, name="middle")(maps)
        for i, width in reversed(list(enumerate(channels))):
            attention = config.attention and i + 1 == len(channels)
            maps = Level(
                width, config.blocks_per_level + 1, config.norm_groups, attention, name=f"level_{i}"
            )(maps)
            if i > 0:
                maps = Upsample(name=f"upsample_{i}")(maps)
        maps = nn.silu(group_norm(config.norm_groups, "norm_out")(maps))
        maps = Conv(stem * stem * IMAGE_CHANNELS, (3, 3), name="conv_out")(maps)
        return rearrange(
            maps, "b h w (down right c) -> b (h down) (w right) c", down=stem, right=stem
        )
