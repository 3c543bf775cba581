"""What the kernels require; importing it does not import Pallas."""

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


def recurrence_mismatch(*, heads: int, dim: int, stateful: bool) -> str | None:
    """The same for the state-space layer, whose kernel runs over whole sequences only."""
    if stateful:
        return "a state to start from or to return, expected neither"
    return heads_mismatch(heads=heads, dim=dim)


def gpu_heads_mismatch(*, heads: int, dim: int) -> str | None:
    """Why GPUs cannot take heads of `dim` channels; None if they can."""
    if dim in GPU_DIMS:
        return None
    return f"heads of {dim} channels, expected one of {', '.join(map(str, GPU_DIMS))}"
