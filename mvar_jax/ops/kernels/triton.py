"""Calls of Triton kernels, which Pallas compiles for NVIDIA's GPUs."""

from collections.abc import Callable, Sequence

from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from mvar_jax.array_types import Array, Leaf
from mvar_jax.ops.implementations import platform
from mvar_jax.ops.kernels.costs import declare_flops

# Four warps own the 64 rows of a matmul's tile; with more, Triton may compute tiles twice.
WARPS = 4
STAGES = 2  # a loop's next inputs are loaded while it computes


def triton_call(
    body: Callable,
    inputs: Sequence[tuple[Leaf, pl.BlockSpec]],
    outputs: Sequence[tuple[Leaf, pl.BlockSpec]],
    *,
    grid: tuple[int, ...],
    flops: int,
    warps: int = WARPS,
) -> tuple[Array, ...]:
    """Runs a kernel on one device; on other platforms than GPUs it is interpreted, slowly.

    body: the kernel; its references are those of the inputs and of the outputs.
    inputs, outputs: arrays, or shapes and dtypes, with the block that a program gets.
    grid: the programs; those along the first axis start one after another.
    flops: FLOPs of all programs together.
    warps: of 32 threads, in a program.
    """
    arrays, in_specs = zip(*inputs)
    shapes, out_specs = zip(*outputs)
    with declare_flops(flops):
        return pl.pallas_call(
            body,
            grid=grid,
            in_specs=in_specs,
            out_specs=out_specs,
            out_shape=shapes,
            compiler_params=triton.CompilerParams(num_warps=warps, num_stages=STAGES),
            interpret=platform() != "gpu",
        )(*arrays)
