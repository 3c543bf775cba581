"""3x3 convolutions of large maps on CPUs, by fewer products."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.implementations import platform
from mvar_jax.ops.parts import parts_of

# F(2, 3) of Winograd's minimal filtering (arXiv 1509.09308, section 4.1), along rows and along
# columns: tiles of 4x4 give 2x2 results by 16 products of pixels in place of 36. Each line is a sum
# of four pixels, of the three entries of a kernel, of four products.
OF_PIXELS = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
OF_KERNEL = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
OF_PRODUCTS = ((1, 1, 1, 0), (0, 1, -1, -1))
# Numbers of the maps, before or after, that are computed together and stay in a CPU's caches.
STRIP = 2**19
# Below these XLA's own convolution is as fast.
LEAST_PIXELS = 64 * 64
LEAST_CHANNELS = 128


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
        and height * width >= LEAST_PIXELS
        and 2 * width * max(channels, kernel.shape[3]) <= STRIP
        and parts_of(height, 2) > 1  # not where a program's cost is counted
        and height % 2 == width % 2 == 0
    )


@jax.custom_vjp
def winograd(
    maps: Float[Array, "batch h w channels"], kernel: Float[Array, "3 3 channels out"]
) -> Float[Array, "batch h w out"]:
    """The 3x3 convolution with zeros around; height and width are even."""
    (batch, height, width, channels), outputs = maps.shape, kernel.shape[3]
    row = batch * width * max(channels, outputs)
    fits = [n for n in range(2, height + 1, 2) if height % n == 0 and n * row <= STRIP]
    return _in_strips(maps, kernel, rows=max(fits, default=2))


@partial(jax.jit, static_argnames="rows")  # so that a decoder traces those of one shape once
def _in_strips(maps, kernel, rows):
    basis = jnp.array(OF_KERNEL, kernel.dtype)
    kernel = jnp.einsum("ia,abcn,jb->ijcn", basis, kernel, basis)
    padded = jnp.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))

    def with_strip(index, made):
        first = index * rows
        own = jax.lax.dynamic_slice_in_dim(padded, first, rows + 2, axis=1)
        return jax.lax.dynamic_update_slice_in_dim(made, _strip(own, kernel), first, axis=1)

    # Begun with values of the maps, since XLA makes zeros for all loops of a program at once.
    begun = jnp.broadcast_to(maps[..., :1], (*maps.shape[:3], kernel.shape[-1]))
    return jax.lax.fori_loop(0, maps.shape[1] // rows, with_strip, begun)


def _strip(padded, kernel):
    """The rows of one strip; `padded` has one pixel more on all sides."""
    tiles = _sums(_every_second(padded, axis=1), OF_PIXELS)
    tiles = _sums(_every_second(tiles, axis=3), OF_PIXELS)
    products = jnp.einsum("jibhwc,ijcn->jibhwn", tiles, kernel)
    products = jnp.moveaxis(_sums(products, OF_PRODUCTS), 1, 0)
    results = _sums(products, OF_PRODUCTS)
    return rearrange(results, "down right b h w n -> b (h down) (w right) n")


def _every_second(pixels, axis):
    """Every second row (or column) from the first, second, third and fourth on."""
    last = pixels.shape[axis] - 3
    return [jax.lax.slice_in_dim(pixels, i, i + last, 2, axis) for i in range(4)]


def _sums(parts, lines):
    """For each line the sum of the parts with its factors, stacked along a new first axis."""
    return jnp.stack([sum(f * part for f, part in zip(own, parts) if f) for own in lines])


def _ordinary(maps, kernel):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(maps, kernel, (1, 1), "SAME", dimension_numbers=dimensions)


def _forward(maps, kernel):
    return winograd(maps, kernel), (maps, kernel)


def _backward(saved, gradient):
    return jax.vjp(_ordinary, *saved)[1](gradient)


winograd.defvjp(_forward, _backward)
