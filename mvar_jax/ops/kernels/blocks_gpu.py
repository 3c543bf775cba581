"""What a GPU kernel over the tokens of every head needs: its call, and blocks of tokens."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from mvar_jax.array_types import Array, Bool, Float, Leaf
from mvar_jax.mesh.axes import batch_axes, head_axis
from mvar_jax.ops.implementations import platform
from mvar_jax.ops.kernels.costs import declare_flops

Kind = Literal["tokens", "rows", "heads"]


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
    inputs: arrays, each with its kind; the first one is of the kind "tokens".
    outputs: shapes and dtypes, or arrays that have them, each with its kind.

    | kind | shape | what a program gets |
    |---|---|---|
    | "tokens" | [batch, total, heads * dim] | the sequence of its head, [total, dim] |
    | "rows" | [batch, heads, n, total] | numbers of its head's tokens, [n, total] |
    | "heads" | [batch, n, heads] | those of its image, [n, heads] |

    On a mesh every device runs the kernel on its own images and, if `tensor` divides the heads, on
    its own heads.
    """
    kinds, arrays = zip(*inputs)
    mesh = jax.sharding.get_abstract_mesh()
    # The compiler cannot split a kernel: an axis that does not divide is replicated.
    images, own_heads = batch_axes(len(arrays[0])) or None, head_axis(heads)
    parts = mesh.shape[own_heads] if own_heads else 1

    def on_device(*own):
        made = [_share(kind, array, len(own[0]), parts) for kind, array in outputs]
        return _call(body, list(zip(kinds, own)), made, heads // parts, launch)

    def specs(pairs):
        axes = {"rows": (images, own_heads, None, None)}
        whole = (images, None, own_heads)
        return tuple(jax.sharding.PartitionSpec(*axes.get(kind, whole)) for kind, _ in pairs)

    if mesh.empty:
        return on_device(*arrays)
    return jax.shard_map(
        on_device, in_specs=specs(inputs), out_specs=specs(outputs), check_vma=False
    )(*arrays)


def _share(kind, array, batch, parts):
    """A device's part of an output: `batch` images, and one of `parts` parts of the heads."""
    shape = [batch, *array.shape[1:]]
    shape[1 if kind == "rows" else 2] //= parts
    return kind, jax.ShapeDtypeStruct(shape, array.dtype)


def _call(body, inputs, outputs, heads, launch):
    """Runs a kernel on one device."""
    arrays, shapes = ([array for _, array in pairs] for pairs in (inputs, outputs))
    batch, total, width = arrays[0].shape

    def spec(pair):
        kind, array = pair
        *_, rows, columns = array.shape
        if kind == "tokens":
            own = (None, rows, width // heads)
            return pl.BlockSpec(own, lambda block, head, image: (image, 0, head))
        if kind == "rows":
            own = (None, None, rows, columns)
            return pl.BlockSpec(own, lambda block, head, image: (image, head, 0, 0))
        return pl.BlockSpec((None, rows, columns), lambda block, head, image: (image, 0, 0))

    with declare_flops(batch * heads * launch.flops):
        return pl.pallas_call(
            body,
            grid=(pl.cdiv(total, launch.block), heads, batch),
            in_specs=[spec(pair) for pair in inputs],
            out_specs=[spec(pair) for pair in outputs],
            out_shape=shapes,
            compiler_params=plgpu.CompilerParams(num_warps=launch.warps, num_stages=2),
            interpret=platform() != "gpu",
        )(*arrays)


class Blocks(NamedTuple):
    """Loads and stores blocks of a sequence of `total` tokens, whose last block may be cut short.

    A reference is [total, dim], or [n, total] of which `row` is meant.
    """

    total: int

    def load(self, ref: Leaf, start: Leaf, size: int, row: int | None = None) -> Array:
        """Tokens from `start` on, [size, dim] or [size], with zeros beyond the end."""
        block, mask = self._select(ref, start, size, row)
        return plgpu.load(block, mask=mask, other=0)

    def store(self, ref: Leaf, start: Leaf, values: Array, row: int | None = None) -> None:
        """Writes as many of the values as there are tokens, in the reference's dtype."""
        block, mask = self._select(ref, start, len(values), row)
        plgpu.store(block, values.astype(ref.dtype), mask=mask)

    def _select(self, ref, start, size, row) -> tuple[Leaf, Bool[Array, "..."]]:
        before_end = start + jnp.arange(size) < self.total
        if row is None:
            return ref.at[pl.ds(start, size)], before_end[:, None]
        # Interpretation wants an array for an index.
        return ref.at[jnp.int32(row), pl.ds(start, size)], before_end


def product(left: Float[Array, "m k"], right: Float[Array, "k n"]) -> Float[Array, "m n"]:
    """A matmul with float32 result, of float32 inputs in JAX's precision for this platform."""
    return jnp.dot(left, right, preferred_element_type=jnp.float32)
