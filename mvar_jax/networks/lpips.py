"""LPIPS: how different two images look, by the features of a classifier.

Zhang et al., arXiv 1801.03924, version 0.1: squared differences of the features at five depths of
VGG16 or AlexNet, each pixel's scaled to length 1, weighed by channel as people judged.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.lax import Precision

from mvar_jax.array_types import Array, Float, Params
from mvar_jax.checks import check
from mvar_jax.networks.layers import convolve, max_pool

# ImageNet's mean and standard deviation by channel, for images in [-1, 1].
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPSILON = 1e-10  # added to the length, outside of the root


@dataclass(frozen=True)
class Convolution:
    """A convolution and the ReLU after it; `index` is its place in torchvision's `features`."""

    index: int
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """That of the kernel: height, width, inputs, outputs."""
        return (self.kernel, self.kernel, self.inputs, self.outputs)

    @property
    def edge(self) -> int:
        """Zeros on every side: both are padded alike, which "SAME" does not do with strides."""
        return 2 if self.stride > 1 else self.kernel // 2


@dataclass(frozen=True)
class Backbone:
    """A classifier's convolutions up to each of the depths where features are compared."""

    name: str
    depths: tuple[tuple[Convolution, ...], ...]
    pool: int  # side of the max-pools, of stride 2
    pooled: tuple[int, ...]  # depths before which there is one

    @property
    def least_side(self) -> int:
        """The least side of images, in pixels, of which every depth has a position."""
        return next(side for side in itertools.count(1) if self._last_side(side) > 0)

    def _last_side(self, side: int) -> int:
        """The side of the last maps; none left where it is not above 0."""
        for depth, convolutions in enumerate(self.depths):
            side = (side - self.pool) // 2 + 1 if depth in self.pooled else side
            for one in convolutions:
                side = (side + 2 * one.edge - one.kernel) // one.stride + 1
        return side


def _vgg16() -> Backbone:
    depths, index, inputs = [], 0, 3
    for count, outputs in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        convolutions = []
        for _ in range(count):
            convolutions.append(Convolution(index, inputs, outputs, 3))
            index, inputs = index + 2, outputs  # a ReLU each
        depths.append(tuple(convolutions))
        index += 1  # the pool
    return Backbone("vgg", tuple(depths), 2, (1, 2, 3, 4))


VGG16 = _vgg16()
ALEXNET = Backbone(
    "alex",
    (
        (Convolution(0, 3, 64, 11, 4),),
        (Convolution(3, 64, 192, 5),),
        (Convolution(6, 192, 384, 3),),
        (Convolution(8, 384, 256, 3),),
        (Convolution(10, 256, 256, 3),),
    ),
    3,
    (1, 2),
)
BACKBONES = {backbone.name: backbone for backbone in (VGG16, ALEXNET)}


@dataclass(frozen=True, eq=False)
class PerceptualNetwork:
    """A classifier with its weights and those of the heads, and what a report says of it."""

    name: str
    weights: tuple[str, ...]  # the SHA-256 of their files
    backbone: Backbone
    params: Params


def lpips_shapes(backbone: Backbone) -> Params:
    """The shapes of the parameters of LPIPS, float32."""
    shapes: Params = {}
    for depth, convolutions in enumerate(backbone.depths):
        for one in convolutions:
            own = {"kernel": one.shape, "bias": (one.outputs,)}
            shapes[f"conv{one.index}"] = {k: _float32(*shape) for k, shape in own.items()}
        shapes[f"head{depth}"] = {"weight": _float32(convolutions[-1].outputs)}
    return shapes


def perceptual_distance(
    backbone: Backbone,
    params: Params,
    images: Float[Array, "batch height width_px 3"],
    others: Float[Array, "batch height width_px 3"],
    precision: Precision = Precision.HIGHEST,
) -> Float[Array, "batch"]:
    """LPIPS of every pair of two batches: the sum of `lpips` over depths."""
    return jnp.sum(lpips(backbone, params, images, others, precision), axis=1)


def lpips(
    backbone: Backbone,
    params: Params,
    images: Float[Array, "batch height width_px 3"],
    others: Float[Array, "batch height width_px 3"],
    precision: Precision = Precision.HIGHEST,
) -> Float[Array, "batch depths"]:
    """The distance at each of the five depths, float32; LPIPS is their sum.

    Images are in [-1, 1]. Gradients are finite, also where the images are equal. `precision` is
    that of the convolutions: HIGHEST to measure by, which is six passes of bfloat16 on TPUs. Raises
    ValueError for images too small for the backbone's pools.
    """
    check_size(backbone, images.shape[1:3])
    maps = lpips_maps(backbone, params, images, others, precision)
    return jnp.stack([jnp.mean(one, axis=(1, 2)) for one in maps], axis=1)


def check_size(backbone: Backbone, size: tuple[int, ...]) -> None:
    """Raises ValueError for images of (height, width) pixels too small for the backbone's pools."""
    least = backbone.least_side
    check(
        min(size) >= least,
        f"lpips: got images of {size[0]} x {size[1]} pixels, expected at least {least} x {least} "
        f"for {backbone.name}; take larger ones, or leave LPIPS out.",
    )


def lpips_maps(
    backbone: Backbone,
    params: Params,
    images: Float[Array, "batch height width_px 3"],
    others: Float[Array, "batch height width_px 3"],
    precision: Precision = Precision.HIGHEST,
) -> list[Float[Array, "batch _ _"]]:
    """The distance at every position of the maps of each depth."""
    pairs = zip(*(backbone_maps(backbone, params, scaled(x), precision) for x in (images, others)))
    differences = ((unit_length(one) - unit_length(other)) ** 2 for one, other in pairs)
    return [jnp.sum(d * params[f"head{i}"]["weight"], axis=-1) for i, d in enumerate(differences)]


def scaled(
    images: Float[Array, "batch height width_px 3"],
) -> Float[Array, "batch height width_px 3"]:
    """Images in [-1, 1] as the classifiers see them, float32."""
    return (images.astype(jnp.float32) - jnp.array(SHIFT)) / jnp.array(SCALE)


def backbone_maps(
    backbone: Backbone,
    params: Params,
    x: Float[Array, "batch height width_px 3"],
    precision: Precision = Precision.HIGHEST,
) -> Iterator[Float[Array, "batch _ _ channels"]]:
    """The maps at each depth, of scaled images."""
    for depth, convolutions in enumerate(backbone.depths):
        x = max_pool(x, backbone.pool, 2) if depth in backbone.pooled else x
        for one in convolutions:
            own, padding = params[f"conv{one.index}"], 2 * ((one.edge, one.edge),)
            maps = convolve(own, x, stride=one.stride, padding=padding, precision=precision)
            x = jax.nn.relu(maps)
        yield x


def unit_length(x: Float[Array, "batch h w channels"]) -> Float[Array, "batch h w channels"]:
    """Every position's vector divided by its length, which is guarded for the gradient."""
    squares = jnp.sum(x**2, axis=-1, keepdims=True)
    length = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
    return x / (length + EPSILON)


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
