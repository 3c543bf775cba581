"""What a GPU kernel over the tokens of every head needs: its call, and blocks of tokens."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from mvar_jax.array_types import Array, Bool, Float, Leaf
from mvar_jax.ops.kernels.shared import Kind, on_every_device, share_of
from mvar_jax.ops.kernels.triton import triton_call


class Launch(NamedTuple):
    """How a kernel runs.

    block: tokens of a program.
    warps: of 32 threads, in a program.
    flops: of one head of one image.
    """

    block: int
    warps: int
    flops: int


def heads_call(
    body: Callable,
    inputs: Sequence[tuple[Kind, Leaf]],
    outputs: Sequence[tuple[Kind, Leaf]],
    *,
    heads: int,
    launch: Launch,
) -> tuple[Array, ...]:
    """Runs a kernel over blocks of tokens, heads and images: the axes of its grid, in this order.

    body: the kernel; its references are those of the inputs and the outputs.
    inputs: arrays, each with its kind; the first one is of the kind "lanes".
    outputs: shapes and dtypes, or arrays that have them, each with its kind.

    | kind | shape | what a program gets |
    |---|---|---|
    | "lanes" | [batch, total, heads * dim] | the sequence of its head, [total, dim] |
    | "rows" | [batch, heads, n, total] | numbers of its head's tokens, [n, total] |
    | "heads" | [batch, n, heads] | those of its image, [n, heads] |

    On a mesh every device runs the kernel on its own images and, if `tensor` divides the heads, on
    its own heads.
    """
    kinds, arrays = zip(*inputs)
    width = arrays[0].shape[2]

    def on_device(*own):
        parts = width // own[0].shape[2]
        made = [(kind, share_of(kind, array, len(own[0]), parts)) for kind, array in outputs]
        return _call(body, list(zip(kinds, own)), made, heads // parts, launch)

    return on_every_device(on_device, inputs, [kind for kind, _ in outputs], groups=heads)


def _call(body, inputs, outputs, heads, launch):
    """Runs a kernel on one device."""
    batch, total, width = inputs[0][1].shape

    def spec(kind, array):
        *_, rows, columns = array.shape
        if kind == "lanes":
            own = (None, rows, width // heads)
            return pl.BlockSpec(own, lambda block, head, image: (image, 0, head))
        if kind == "rows":
            own = (None, None, rows, columns)
            return pl.BlockSpec(own, lambda block, head, image: (image, head, 0, 0))
        return pl.BlockSpec((None, rows, columns), lambda block, head, image: (image, 0, 0))

    return triton_call(
        body,
        [(array, spec(kind, array)) for kind, array in inputs],
        [(array, spec(kind, array)) for kind, array in outputs],
        grid=(pl.cdiv(total, launch.block), heads, batch),
        flops=batch * heads * launch.flops,
        warps=launch.warps,
    )


class Blocks(NamedTuple):
    """Loads and stores blocks of a sequence of `total` tokens, whose last block may be cut short.

    A reference is [total, dim], or [n, total] of which `row` is meant.
    """

    total: int

    def load(self, ref: Leaf, start: Leaf, size: int, row: int | None = None) -> Array:
        """Tokens from `start` on, [size, dim] or [size], with zeros beyond the end."""
        block, mask = self._select(ref, start, size, row)
        return triton.load(block, mask=mask, other=0)

    def store(self, ref: Leaf, start: Leaf, values: Array, row: int | None = None) -> None:
        """Writes as many of the values as there are tokens, in the reference's dtype."""
        block, mask = self._select(ref, start, len(values), row)
        triton.store(block, values.astype(ref.dtype), mask=mask)

    def _select(self, ref, start, size, row) -> tuple[Leaf, Bool[Array, "..."]]:
        before_end = start + jnp.arange(size) < self.total
        if row is None:
            return ref.at[pl.ds(start, size)], before_end[:, None]
        # Interpretation wants an array for an index.
        return ref.at[jnp.int32(row), pl.ds(start, size)], before_end


def matmul(left: Float[Array, "m k"], right: Float[Array, "k n"]) -> Float[Array, "m n"]:
    """A matmul with float32 result, of float32 inputs in JAX's precision for this platform.

    On GPUs that is TF32, as in plain JAX: more precise ones would need more registers.
    """
    return jnp.dot(left, right, preferred_element_type=jnp.float32)
