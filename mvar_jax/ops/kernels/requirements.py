"""What the kernels require; importing it does not import Pallas."""

import jax.numpy as jnp
from jax.typing import DTypeLike

from mvar_jax.ops.implementations import device_kind, platform, takes_triton

LANES = 128  # channels in a vector register of a TPU
GPU_DIMS = (16, 32, 64, 128)  # channels of a head that a GPU's tensor cores and registers take


def heads_mismatch(*, heads: int, dim: int) -> str | None:
    """Why TPUs cannot take heads of `dim` channels; None if they fill whole registers."""
    width = heads * dim
    if width % LANES == 0 and LANES % dim == 0:
        return None
    return (
        f"heads of {dim} channels in {width}, expected heads that divide {LANES} and fill "
        "multiples of it"
    )


def recurrence_mismatch(
    *, heads: int, dim: int, state_size: int, stateful: bool, dtype: DTypeLike
) -> str | None:
    """The same for the state-space layer, whose kernel runs over whole sequences only."""
    del state_size, dtype
    return _state_mismatch(stateful) or heads_mismatch(heads=heads, dim=dim)


def gpu_recurrence_mismatch(
    *, heads: int, dim: int, state_size: int, stateful: bool, dtype: DTypeLike
) -> str | None:
    """The same on GPUs: sizes that need no more registers than there are.

    In float32 matmuls would need more; where the kernel is interpreted, that does not matter.
    """
    del heads
    problem = _state_mismatch(stateful) or _triton_mismatch()
    if problem:
        return problem
    if dim not in (32, 64) or state_size not in (32, 64):
        return f"heads of {dim} channels and states of {state_size}, expected 32 or 64 of each"
    if platform() == "gpu" and jnp.dtype(dtype).itemsize != 2:
        return f"{jnp.dtype(dtype).name}, expected 16 bits"
    return None


def _state_mismatch(stateful):
    return "a state to start from or to return, expected neither" if stateful else None


def gpu_heads_mismatch(*, heads: int, dim: int) -> str | None:
    """Why GPUs cannot take heads of `dim` channels; None if they can."""
    del heads
    if dim not in GPU_DIMS:
        return f"heads of {dim} channels, expected one of {', '.join(map(str, GPU_DIMS))}"
    return _triton_mismatch()


def _triton_mismatch():
    if platform() != "gpu" or takes_triton():
        return None
    return f"a {device_kind()}, expected NVIDIA's GPU of compute capability 8.0 or more"
