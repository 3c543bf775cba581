"""The Inception network of 2015, whose features FID, sFID and the Inception Score are made of.

Szegedy et al., arXiv 1512.00567, as TensorFlow published it in 2015 (1008 classes) and Heusel et
al., arXiv 1706.08500, use it. It differs from the networks of that name in other libraries: in its
resize, in average pools that count only pixels that exist, and in the max-pool of its last block.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from mvar_jax.array_types import Array, Float, Params
from mvar_jax.networks.features import ImageFeatures
from mvar_jax.networks.layers import average_pool, convolve, max_pool, mean_pool

SIDE = 299  # pixels of the images that it sees
FEATURES, SPATIAL_FEATURES, CLASSES = 2048, 2023, 1008
SPATIAL_CHANNELS = 7  # of mixed_6/conv, whose maps of 17 x 17 are sFID's features
NORM_EPSILON = 1e-3
RESIZE = "bilinear to 299 x 299, without half-pixel centres and antialiasing (TensorFlow 1)"


def inception_features(
    params: Params, images: UInt8[Array, "batch height width_px 3"]
) -> ImageFeatures:
    """The features of images of any size, which are resized without keeping their aspect.

    `pool` has 2048 channels. `spatial` has 17 x 17 positions of 7 channels of mixed_6/conv.
    `logits` are of 1008 classes, without the bias, as the Inception Score takes them.
    """
    maps = inception_maps(params, prepare(images))
    pool = mean_pool(maps["Mixed_7c"])
    spatial = maps["Mixed_6d"][..., :SPATIAL_CHANNELS].reshape(len(images), -1)
    logits = jnp.matmul(pool, params["fc"]["kernel"], precision=jax.lax.Precision.HIGHEST)
    return ImageFeatures(pool, spatial, logits)


def prepare(
    images: Float[Array, "batch height width_px 3"] | UInt8[Array, "batch height width_px 3"],
) -> Float[Array, "batch 299 299 3"]:
    """Images of 0 to 255 as the network sees them: resized, from -1 to 0.9921875, float32.

    Output pixel i is taken at i * (size / 299), so that the first pixels coincide, from the two
    nearest input pixels: smaller images are subsampled. Positions are float32, as in TensorFlow 1.
    """
    x = images.astype(jnp.float32)
    for axis in (2, 1):  # along x first
        low, high, fraction = sampling_grid(x.shape[axis])
        first, second = jnp.take(x, low, axis), jnp.take(x, high, axis)
        fraction = fraction.reshape((-1, 1) if axis == 2 else (-1, 1, 1))
        x = first + (second - first) * fraction
    return (x - 128) / 128


def sampling_grid(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every output pixel along a side, its two input pixels and the share of the second."""
    positions = np.arange(SIDE, dtype=np.float32) * np.float32(size / SIDE)
    low = np.floor(positions).astype(np.int32)
    return low, np.minimum(low + 1, size - 1), positions - low.astype(np.float32)


def inception_maps(params: Params, x: Float[Array, "batch 299 299 3"]) -> dict[str, Array]:
    """The maps after every stage, by its name in the weight files, [batch, h, w, channels].

    The means of MaxPool_1, MaxPool_2 and Mixed_6e are the features of 64, 192 and 768 channels
    that some packages offer.
    """
    maps: dict[str, Array] = {}
    for name, options in STEM.items():
        if name.startswith("MaxPool"):
            x = max_pool(x, 3, 2)
        else:
            x = jax.nn.relu(convolve(params[name], x, **options))
        maps[name] = x
    for name, block in BLOCKS.items():
        x = maps[name] = block(params[name], x)
    return maps


def _unit(params: Params, x: Array, name: str) -> Array:
    return jax.nn.relu(convolve(params[name], x))


def _halved(params: Params, x: Array, name: str) -> Array:
    return jax.nn.relu(convolve(params[name], x, stride=2, padding="VALID"))


def _chain(params: Params, x: Array, start: str, ends: str) -> Array:
    """Units one after another, named `start` with each of the `ends`."""
    for end in ends.split():
        x = _unit(params, x, start + end)
    return x


def _block_a(params: Params, x: Array) -> Array:
    branches = (
        _unit(params, x, "branch1x1"),
        _chain(params, x, "branch5x5", "_1 _2"),
        _chain(params, x, "branch3x3dbl", "_1 _2 _3"),
        _unit(params, average_pool(x), "branch_pool"),
    )
    return jnp.concatenate(branches, axis=-1)


def _block_b(params: Params, x: Array) -> Array:
    branches = (
        _halved(params, x, "branch3x3"),
        _halved(params, _chain(params, x, "branch3x3dbl", "_1 _2"), "branch3x3dbl_3"),
        max_pool(x, 3, 2),
    )
    return jnp.concatenate(branches, axis=-1)


def _block_c(params: Params, x: Array) -> Array:
    branches = (
        _unit(params, x, "branch1x1"),
        _chain(params, x, "branch7x7", "_1 _2 _3"),
        _chain(params, x, "branch7x7dbl", "_1 _2 _3 _4 _5"),
        _unit(params, average_pool(x), "branch_pool"),
    )
    return jnp.concatenate(branches, axis=-1)


def _block_d(params: Params, x: Array) -> Array:
    branches = (
        _halved(params, _unit(params, x, "branch3x3_1"), "branch3x3_2"),
        _halved(params, _chain(params, x, "branch7x7x3", "_1 _2 _3"), "branch7x7x3_4"),
        max_pool(x, 3, 2),
    )
    return jnp.concatenate(branches, axis=-1)


def _block_e(params: Params, x: Array) -> Array:
    return _wide_block(params, x, average_pool(x))


def _last_block(params: Params, x: Array) -> Array:
    return _wide_block(params, x, max_pool(x, 3, 1, "SAME"))


def _wide_block(params: Params, x: Array, pooled: Array) -> Array:
    short = _unit(params, x, "branch3x3_1")
    long = _chain(params, x, "branch3x3dbl", "_1 _2")
    branches = (
        _unit(params, x, "branch1x1"),
        *(_unit(params, short, f"branch3x3_2{side}") for side in "ab"),
        *(_unit(params, long, f"branch3x3dbl_3{side}") for side in "ab"),
        _unit(params, pooled, "branch_pool"),
    )
    return jnp.concatenate(branches, axis=-1)


STEM: dict[str, dict] = {
    "Conv2d_1a_3x3": {"stride": 2, "padding": "VALID"},
    "Conv2d_2a_3x3": {"padding": "VALID"},
    "Conv2d_2b_3x3": {},
    "MaxPool_1": {},
    "Conv2d_3b_1x1": {},
    "Conv2d_4a_3x3": {"padding": "VALID"},
    "MaxPool_2": {},
}
BLOCKS = {
    **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), _block_a),
    "Mixed_6a": _block_b,
    **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), _block_c),
    "Mixed_7a": _block_d,
    "Mixed_7b": _block_e,
    "Mixed_7c": _last_block,
}
