"""FLOPs and bytes of calls into libraries and kernels of GPUs, unknown to XLA's cost analysis."""

import math
import re
from collections.abc import Sequence

from mvar_jax.compilation.program_text import ArrayType, Line, array_types, instructions
from mvar_jax.ops.kernels.costs import declared_flops

# Kernels of Pallas, as JAX calls them: compiled by XLA, or in later versions by JAX.
KERNELS = ("__gpu$xla.gpu.triton", "triton_kernel_call_ffi", "triton_kernel_call")
TARGET = re.compile(r'custom_call_target="([^"]*)"')
CONTRACTED = re.compile(r'"lhs_contracting_dimensions":\[([^\]]*)\]')
LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")


def library_cost(text: str) -> tuple[int, int]:
    """FLOPs and bytes of all calls into libraries and kernels, from the text of a program for GPUs.

    FLOPs are those of cuBLAS's products and cuDNN's convolutions, and what kernels of Pallas
    declare; of other calls none are counted. Bytes are those of operands and results, each once,
    without workspace.
    """
    found = instructions(text)
    types = {row.name: array_types(row.result) for row in found}
    flops = moved = 0
    for row in found:
        if row.kind != "custom-call":
            continue
        operands = [array for name in row.operands for array in types.get(name, [])]
        results, own = _results_and_flops(row, operands, types[row.name])
        flops += own
        moved += sum(array.bytes for array in (*operands, *results))
    return flops, moved


def _results_and_flops(
    row: Line, operands: Sequence[ArrayType], results: Sequence[ArrayType]
) -> tuple[Sequence[ArrayType], int]:
    """The results of a call, without workspace, and its FLOPs."""
    target = TARGET.search(row.rest)
    name = target[1] if target else ""
    contracted, labels = CONTRACTED.search(row.rest), LABELS.search(row.rest)
    if name.startswith("__cublas") and contracted:
        dims = [int(dim) for dim in re.findall(r"\d+", contracted[1])]
        inner = math.prod(operands[0].shape[dim] for dim in dims)
        return results[:1], 2 * math.prod(results[0].shape) * inner
    if name.startswith("__cudnn$conv") and labels:
        kernel, result = _kernel_and_result(name, operands, results[0])
        outputs = kernel.shape[labels[2].index("o")]
        return results[:1], 2 * math.prod(result.shape) * math.prod(kernel.shape) // outputs
    return results, declared_flops(row.rest) if name in KERNELS else 0


def _kernel_and_result(
    name: str, operands: Sequence[ArrayType], first: ArrayType
) -> tuple[ArrayType, ArrayType]:
    """The kernel and the result of the convolution that a call computes, or the gradient of.

    Labels of dimensions are those of the convolution in all of them.
    """
    if name.endswith("BackwardFilter"):
        return first, operands[1]
    return operands[1], operands[0] if name.endswith("BackwardInput") else first
