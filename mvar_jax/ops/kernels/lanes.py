"""What the TPU kernels share: heads side by side in the 128 lanes of a vector register.

A head of 64 channels fills half a register. Instead of separating heads, kernels load groups of
128 channels in their memory layout and zero, for one head at a time, the lanes of the others.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from mvar_jax.array_types import Array, Leaf
from mvar_jax.ops.implementations import on_tpu
from mvar_jax.ops.kernels.requirements import LANES
from mvar_jax.ops.kernels.shared import Kind, on_every_device, share_of

Heads = list[tuple[Array, Array]]


def group_heads(count: int, dim: int) -> Heads:
    """For each head of this program's group: masks of its column, [1, heads], and of its lanes.

    Arrays with one number per head have a column per head. Registers cannot be indexed by a
    value that is known only at run time, so columns and lanes are selected by masks.
    """
    group = LANES // dim
    index = jax.lax.broadcasted_iota(jnp.int32, (1, count), 1) - pl.program_id(1) * group
    lane = jax.lax.broadcasted_iota(jnp.int32, (1, LANES), 1) // dim
    return [(index == own, lane == own) for own in range(group)]


def column(array: Array, head: Array) -> Array:
    """A head's column of [n, heads]: [n, 1]."""
    return jnp.sum(jnp.where(head, array, 0), axis=1, keepdims=True)


def lanewise(array: Array, heads: Heads) -> Array:
    """Broadcasts every head's column to the lanes of that head: [n, lanes]."""
    spread = jnp.zeros((array.shape[0], LANES))
    for head, lanes in heads:
        spread = jnp.where(lanes, column(array, head), spread)
    return spread


def lane_sum(array: Array, lanes: Array) -> Array:
    """Sums over a head's lanes: [n, 1]."""
    return jnp.sum(jnp.where(lanes, array, 0), axis=1, keepdims=True)


def add_column(ref: Leaf, rows: Leaf, head: Array, own: Array) -> None:
    """Adds `own`, [rows, 1], to a head's column in some rows of a reference to [1, n, heads]."""
    ref[0, rows] += jnp.where(head, own, 0)


def sequence_call(
    body: Callable,
    inputs: Sequence[tuple[Kind, Leaf]],
    outputs: Sequence[tuple[Kind, Leaf]],
    scratch: Sequence[tuple[int, ...]],
    flops: int,
) -> tuple[Array, ...]:
    """Runs a kernel over images and groups of lanes, the whole sequence at a time.

    body: the kernel; its references are those of the inputs, the outputs and the scratch memory.
    inputs: arrays [batch, n, width], each with its kind; the first one is of the kind "lanes".
    outputs: shapes and dtypes, or arrays that have them, each with its kind.
    scratch: shapes of float32 working memory.
    flops: FLOPs for one image.

    | kind | width | what a program of the grid (image, group) gets |
    |---|---|---|
    | "lanes" | channels of all heads | the 128 channels of its group, [1, n, 128] |
    | "heads" | one number per head | those of all heads, [1, n, heads] |
    | "shared" | the same for all heads | everything, [1, n, width] |

    Outputs of the kinds "heads" and "shared" are accumulated over the groups by the body. On a mesh
    every device runs the kernel on its own images and, if `tensor` divides the groups, on its own
    heads (`on_every_device`).
    """
    kinds, arrays = zip(*inputs)
    width = arrays[0].shape[2]

    def on_device(*own):
        parts = width // own[0].shape[2]
        made = [(kind, share_of(kind, array, len(own[0]), parts)) for kind, array in outputs]
        return _call(body, list(zip(kinds, own)), made, scratch, flops // parts)

    made_kinds = [kind for kind, _ in outputs]
    return on_every_device(on_device, inputs, made_kinds, groups=width // LANES)


def _call(body, inputs, outputs, scratch, flops):
    """Runs a kernel on one device; the arguments are those of `sequence_call`."""
    arrays, shapes = ([array for _, array in pairs] for pairs in (inputs, outputs))
    batch, _, width = arrays[0].shape

    def spec(pair):
        kind, array = pair
        n, own = array.shape[1:]
        if kind == "lanes":
            return pl.BlockSpec((1, n, LANES), lambda image, group: (image, 0, group))
        return pl.BlockSpec((1, n, own), lambda image, group: (image, 0, 0))

    moved = sum(math.prod(array.shape) * array.dtype.itemsize for array in (*arrays, *shapes))
    cost = pl.CostEstimate(flops=batch * flops, transcendentals=0, bytes_accessed=moved)
    return pl.pallas_call(
        body,
        grid=(batch, width // LANES),
        in_specs=[spec(pair) for pair in inputs],
        out_specs=[spec(pair) for pair in outputs],
        out_shape=shapes,
        scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        cost_estimate=cost,
        interpret=not on_tpu(),
    )(*arrays)
