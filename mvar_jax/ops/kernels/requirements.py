"""What the TPU kernels require; importing it does not import Pallas."""

LANES = 128  # channels in a vector register


def heads_mismatch(*, heads: int, dim: int) -> str | None:
    """Why heads of `dim` channels cannot be used; None if they fill whole registers."""
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
