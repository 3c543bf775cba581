"""The discriminator of a tokenizer's training: is a patch of an image real, or reconstructed?"""

from math import gcd

import flax.linen as nn

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.module import Conv, GroupNorm, Module

WINDOW, EDGE = (4, 4), ((1, 1), (1, 1))
WIDEST = 8  # times the channels of the first layer
GROUP = 16  # channels that a norm takes together, or as many as divide all
SLOPE = 0.2  # of the leaky ReLU below zero
START = nn.initializers.normal(0.02)  # as published


class Discriminator(Module):
    """PatchGAN (Isola et al., arXiv 1611.07004, section 6.1.2): a logit per patch of an image.

    `layers` strided convolutions of 4 x 4, the first to `channels` and each next to twice as many,
    up to eight times `channels`; then one without stride, and one to the logits. With three layers
    a logit sees 70 x 70 pixels.

    Norms are of groups of channels of one image, where the paper has batch norm: statistics of a
    batch would make a step depend on how it is split into parts and over devices, would have
    running averages to keep, and tell real from reconstructed batches by themselves.
    """

    channels: int
    layers: int

    @nn.compact
    def __call__(self, images: Float[Array, "batch _ _ 3"]) -> Float[Array, "batch h w"]:
        """Logits, above zero for real patches, of images in [-1, 1]."""
        maps = _convolution(self.channels, stride=2, name="convolution_0")(images)
        maps = nn.leaky_relu(maps, SLOPE)
        for depth in range(1, self.layers + 1):
            channels = self.channels * min(2**depth, WIDEST)
            stride = 2 if depth < self.layers else 1
            maps = _convolution(channels, stride=stride, name=f"convolution_{depth}")(maps)
            size = gcd(GROUP, channels)
            maps = GroupNorm(None, group_size=size, name=f"norm_{depth}")(maps)
            maps = nn.leaky_relu(maps, SLOPE)
        return _convolution(1, stride=1, name="logits")(maps)[..., 0]


def _convolution(channels: int, *, stride: int, name: str) -> Conv:
    return Conv(channels, WINDOW, strides=stride, padding=EDGE, kernel_init=START, name=name)
