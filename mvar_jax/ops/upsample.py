"""A 3x3 convolution of a map that was doubled by repeating its pixels."""

from itertools import product

import jax
import jax.numpy as jnp
from einops import rearrange, repeat

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.implementations import on_tpu

# Of the three rows that an output row reads, two are copies of one row of the small map: the upper
# of two output rows reads the rows -1, 0, 0 counted from its own, the lower one 0, 0, 1.
TAPS = (((0,), (1, 2)), ((0, 1), (2,)))


def upsampled_convolution(
    maps: Float[Array, "batch h w channels"], kernel: Float[Array, "3 3 channels out"]
) -> Float[Array, "batch _ _ out"]:
    """Repeats every pixel 2 x 2 times and convolves with `kernel`, zeros around it.

    Returns `[batch, 2 h, 2 w, out]`. Each of the four pixels that replace one is a 2x2 convolution
    of the small map, by a kernel that sums what falls on copies: 16 products in place of 36, and
    the repeated map is never stored. The four are the outputs of one convolution, in which the
    lower and right ones are found one place further. TPUs convolve the repeated map: they are bound
    by memory traffic, and bringing the four together moves more.
    """
    if on_tpu():
        maps = repeat(maps, "b h w c -> b (h down) (w right) c", down=2, right=2)
        return _convolve(maps, kernel, ((1, 1), (1, 1)))
    height, width = maps.shape[1:3]
    kernels = jnp.concatenate([_kernel(kernel, *own) for own in product(range(2), repeat=2)], -1)
    made = _convolve(maps, kernels, ((1, 1), (1, 1)))
    made = rearrange(made, "b h w (down right out) -> b h w down right out", down=2, right=2)
    rows = [
        jnp.stack([made[:, i : i + height, j : j + width, i, j] for j in range(2)], axis=3)
        for i in range(2)
    ]
    return rearrange(jnp.stack(rows, axis=2), "b h down w right out -> b (h down) (w right) out")


def _kernel(kernel, down, right):
    """The 2x2 kernel of the pixels at row `down`, column `right` of every 2 x 2."""
    kernel = jnp.stack([sum(kernel[row] for row in taps) for taps in TAPS[down]])
    return jnp.stack([sum(kernel[:, column] for column in taps) for taps in TAPS[right]], axis=1)


def _convolve(maps, kernel, padding):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(maps, kernel, (1, 1), padding, dimension_numbers=dimensions)
