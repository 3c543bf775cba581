"""Random changes of images that a discriminator sees, differentiable with respect to the images.

Zhao et al., arXiv 2006.10738, section 4: the same distribution of changes for real and generated
images, through which the generator's gradient passes. Colour, translation and cutout, in their
published ranges.
"""

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Int, Key
from mvar_jax.ops.noise import fold_each

COLOUR_STREAM, SHIFT_STREAM, HOLE_STREAM = 1, 2, 3  # folded into an image's key before drawing
MOST_SHIFTED = 1 / 8  # of a side, either way
HOLE = 1 / 2  # side of the hole, of the image's


def diff_augment(
    images: Float[Array, "batch height width_px channels"], keys: Key[Array, "batch"]
) -> Float[Array, "batch height width_px channels"]:
    """Images in [-1, 1] with other colours, shifted, and with a hole; values may leave the range.

    What is drawn for an image depends on its key only. Pixels that are shifted in, and those of the
    hole, are 0.
    """
    images = change_colours(images, _draw(keys, COLOUR_STREAM, 3))
    height, width = images.shape[1:3]
    shares = _draw(keys, SHIFT_STREAM, 2)
    images = shift(images, _shifts(shares[:, 0], height), _shifts(shares[:, 1], width))
    return images * _outside_of_hole(_draw(keys, HOLE_STREAM, 2), height, width)[..., None]


def change_colours(
    images: Float[Array, "batch height width_px channels"], shares: Float[Array, "batch 3"]
) -> Float[Array, "batch height width_px channels"]:
    """Images of other brightness, saturation and contrast, by numbers in [0, 1) for each.

    Brightness is added, from -0.5 to 0.5; the distance of a pixel's channels from their mean is
    multiplied by 0 to 2, and then that of all values from the image's mean by 0.5 to 1.5.
    """
    brightness, saturation, contrast = shares.T[:, :, None, None, None]
    images = images + brightness - 0.5
    grey = jnp.mean(images, axis=3, keepdims=True)
    images = grey + 2 * saturation * (images - grey)
    mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    return mean + (contrast + 0.5) * (images - mean)


def shift(
    images: Float[Array, "batch height width_px channels"],
    down: Int[Array, "batch"],
    right: Int[Array, "batch"],
) -> Float[Array, "batch height width_px channels"]:
    """Every image moved by its own number of pixels, with zeros moved in.

    By matmuls with matrices of 0 and 1, exact in float32: gathers, and the scatters of their
    gradients, are slow on TPUs.
    """
    height, width = images.shape[1:3]
    rows, columns = _moved(down, height), _moved(right, width)
    exact = jax.lax.Precision.HIGHEST
    images = jnp.einsum("bij,bjwc->biwc", rows, images, precision=exact)
    return jnp.einsum("bij,bhjc->bhic", columns, images, precision=exact)


def _moved(by: Int[Array, "batch"], side: int) -> Float[Array, "batch side side"]:
    """The matrix that moves the entries of a vector: 1 where the row is the column plus `by`."""
    index = jnp.arange(side)
    return (index[None, :, None] - index[None, None, :] == by[:, None, None]).astype(jnp.float32)


def _shifts(shares: Float[Array, "batch"], side: int) -> Int[Array, "batch"]:
    """Whole pixels, uniform within `MOST_SHIFTED` of a side."""
    most = int(side * MOST_SHIFTED + 0.5)
    return jnp.floor(shares * (2 * most + 1)).astype(jnp.int32) - most


def _outside_of_hole(
    shares: Float[Array, "batch 2"], height: int, width: int
) -> Float[Array, "batch height width_px"]:
    """0 in a rectangle around any pixel, which the edges of the image may cut; 1 outside."""

    def within(share, side):
        size = int(side * HOLE + 0.5)
        first = jnp.floor(share * (side + 1 - size % 2)).astype(jnp.int32) - size // 2
        index = jnp.arange(side) - first[:, None]
        return (index >= 0) & (index < size)

    rows, columns = within(shares[:, 0], height), within(shares[:, 1], width)
    return 1.0 - (rows[:, :, None] & columns[:, None, :]).astype(jnp.float32)


def _draw(keys: Key[Array, "batch"], stream: int, draws: int) -> Float[Array, "batch draws"]:
    def of_image(key):
        return jax.random.uniform(key, (draws,), jnp.float32)

    return jax.vmap(of_image)(fold_each(keys, stream))
