"""What kernels for TPUs and GPUs share: their matmul, and how a mesh splits what they compute."""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Leaf
from mvar_jax.mesh.axes import batch_axes, head_axis

Kind = Literal["lanes", "heads", "shared", "rows"]


def product(equation: str, left: Array, right: Array) -> Array:
    """A matmul with float32 result; float32 inputs are not rounded."""
    precision = jax.lax.Precision.HIGHEST if left.dtype == jnp.float32 else None
    return jnp.einsum(
        equation, left, right, precision=precision, preferred_element_type=jnp.float32
    )


def share_of(kind: Kind, array: Leaf, batch: int, parts: int) -> jax.ShapeDtypeStruct:
    """A device's part of an output: `batch` images, and one of `parts` parts of the heads."""
    shape = [batch, *array.shape[1:]]
    if kind != "shared":
        shape[1 if kind == "rows" else 2] //= parts
    return jax.ShapeDtypeStruct(tuple(shape), array.dtype)


def on_every_device(
    function: Callable[..., Sequence[Array]],
    inputs: Sequence[tuple[Kind, Leaf]],
    outputs: Sequence[Kind],
    *,
    groups: int,
) -> tuple[Array, ...]:
    """Calls a function of arrays [batch, n, width] on every device, with its images and heads.

    Those of the kind "rows" are [batch, heads, n, total].

    inputs: arrays with their kinds, the arguments of `function`.
    outputs: the kinds of its results.
    groups: into how many groups of heads the arrays can be split.

    | kind | width | what is split |
    |---|---|---|
    | "lanes" | channels of all heads | images and heads |
    | "heads" | one number per head | images and heads |
    | "shared" | the same for all heads | images; a result is summed over the devices' heads |
    | "rows" | one number per token | images and heads |

    The compiler cannot split a kernel: images or heads that do not divide are replicated.
    """
    kinds, arrays = zip(*inputs)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return tuple(function(*arrays))
    images, heads = batch_axes(len(arrays[0])) or None, head_axis(groups)

    def on_device(*own):
        return tuple(
            jax.lax.psum(result, heads) if heads and kind == "shared" else result
            for kind, result in zip(outputs, function(*own), strict=True)
        )

    def specs(kinds):
        axes = {"shared": (images, None, None), "rows": (images, heads, None, None)}
        by_kind = (axes.get(kind, (images, None, heads)) for kind in kinds)
        return tuple(jax.sharding.PartitionSpec(*own) for own in by_kind)

    return jax.shard_map(
        on_device, in_specs=specs(kinds), out_specs=specs(outputs), check_vma=False
    )(*arrays)
