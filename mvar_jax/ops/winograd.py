"""3x3 convolutions of large maps on CPUs, by fewer products."""

from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.implementations import platform
from mvar_jax.ops.parts import parts_of

# Of F(2x2, 3x3) of Winograd's minimal filtering (arXiv 1509.09308, section 4.1): tiles of 4x4 give
# 2x2 results by 16 products of pixels in place of 36. Of four rows or columns, those that make each
# row or column before and after the products, with their signs.
BEFORE = (((0, 1), (2, -1)), ((1, 1), (2, 1)), ((2, 1), (1, -1)), ((1, 1), (3, -1)))
AFTER = (((0, 1), (1, 1), (2, 1)), ((1, 1), (2, -1), (3, -1)))
KERNEL = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
STRIP = 4096  # pixels that are computed together, so that they stay in a CPU's caches
# Below these XLA's own convolution is as fast.
LEAST_STRIPS = 4
LEAST_CHANNELS = 160


def convolve(
    maps: Float[Array, "batch h w channels"],
    kernel: Float[Array, "_ _ channels out"],
    strides: tuple[int, ...],
    padding: Any,
    **others: Any,
) -> Float[Array, "batch _ _ out"]:
    """A convolution, with the arguments that `flax.linen.Conv` gives it.

    On CPUs those of large float32 maps with many channels are computed by Winograd's algorithm,
    whose rounding is of the order of the ordinary one's; their gradients are the ordinary ones.
    """
    if _pays(maps, kernel) and tuple(strides) == (1, 1) and padding == "SAME":
        return winograd(maps, kernel)
    return jax.lax.conv_general_dilated(maps, kernel, strides, padding, **others)


def _pays(maps, kernel) -> bool:
    _, height, width, channels = maps.shape
    return (
        platform() == "cpu"
        and maps.dtype == jnp.float32
        and kernel.shape[:2] == (3, 3)
        and min(channels, kernel.shape[3]) >= LEAST_CHANNELS
        and parts_of(height * width, STRIP) >= LEAST_STRIPS
        and height % 2 == width % 2 == 0
    )


@jax.custom_vjp
def winograd(
    maps: Float[Array, "batch h w channels"], kernel: Float[Array, "3 3 channels out"]
) -> Float[Array, "batch h w out"]:
    """The 3x3 convolution with zeros around; height and width are even."""
    (batch, height, width, _), outputs = maps.shape, kernel.shape[3]
    basis = jnp.array(KERNEL, kernel.dtype)
    kernel = jnp.einsum("ia,abcn,jb->ijcn", basis, kernel, basis)
    padded = jnp.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    fits = [n for n in range(2, height + 1, 2) if height % n == 0 and n * width <= STRIP]
    rows = max(fits, default=2)

    def strip(first):
        own = jax.lax.dynamic_slice_in_dim(padded, first, rows + 2, axis=1)
        return _strip(own, kernel)

    strips = jax.lax.map(strip, jnp.arange(0, height, rows))
    return jnp.moveaxis(strips, 0, 1).reshape(batch, height, width, outputs)


def _strip(padded, kernel):
    """The rows of one strip; `padded` has one pixel more on all sides."""
    height, width = padded.shape[1] - 2, padded.shape[2] - 2
    pixels = [
        [padded[:, i : i + height - 1 : 2, j : j + width - 1 : 2] for j in range(4)]
        for i in range(4)
    ]
    products = [
        [_combined(pixels, BEFORE[i], BEFORE[j]) @ kernel[i, j] for j in range(4)] for i in range(4)
    ]
    results = [jnp.stack([_combined(products, i, j) for j in AFTER], axis=3) for i in AFTER]
    return rearrange(jnp.stack(results, axis=2), "b h down w right n -> b (h down) (w right) n")


def _combined(tiles, rows, columns):
    """The sum of the tiles at these rows and columns, with their signs."""
    return sum(sign * other * tiles[i][j] for i, sign in rows for j, other in columns)


def _ordinary(maps, kernel):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(maps, kernel, (1, 1), "SAME", dimension_numbers=dimensions)


def _forward(maps, kernel):
    return winograd(maps, kernel), (maps, kernel)


def _backward(saved, gradient):
    return jax.vjp(_ordinary, *saved)[1](gradient)


winograd.defvjp(_forward, _backward)
