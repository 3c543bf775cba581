"""Mamba-2's selective state-space layer (SSD)."""

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.implementations import Implementation, Op
from mvar_jax.ops.kernels.requirements import gpu_recurrence_mismatch, recurrence_mismatch

SSD = Op(
    "ssd",
    (
        Implementation(
            "pallas_tpu",
            "mvar_jax.ops.kernels.ssd:ssd",
            platforms=("tpu",),
            interpreted=True,
            mismatch=recurrence_mismatch,
            flat_heads=True,
        ),
        Implementation(
            "pallas_gpu",
            "mvar_jax.ops.kernels.ssd_gpu:ssd",
            platforms=("gpu",),
            interpreted=True,
            mismatch=gpu_recurrence_mismatch,
            flat_heads=True,
        ),
        Implementation("xla", "mvar_jax.ops._xla_ssd:ssd"),
    ),
)
"""`pick` takes the sizes `heads`, `dim` (channels of a head), `state_size`, the `dtype` of x, and
`stateful`: whether an initial state is given or the last one is to be returned."""


def ssd(
    x: Float[Array, "batch n heads dim"],
    dt: Float[Array, "batch n heads"],
    decay_rate: Float[Array, "heads"],
    b: Float[Array, "batch n state"],
    c: Float[Array, "batch n state"],
    *,
    skip: Float[Array, "heads"] | None = None,
    initial: Float[Array, "batch heads dim state"] | None = None,
    return_state: bool = True,
    chunk: int = 256,
    implementation: str = "auto",
) -> tuple[Float[Array, "batch n heads dim"], Float[Array, "batch heads dim state"] | None]:
    """Runs `h_t = exp(dt_t a) h_(t-1) + dt_t x_t b_t^T`, `y_t = h_t c_t + d x_t` over the sequence.

    x: the inputs.
    dt: the step sizes, at least 0 (after softplus).
    decay_rate: a, at most 0, one number per head.
    b, c: input and output vectors of the state, shared by the heads.
    skip: d, one number per head; zeros if None.
    initial: the state before the first token; zeros if None.
    return_state: whether the state after the last token is returned.
    chunk: tokens that are mixed by one matmul, in implementations that leave it open; it changes
        speed and memory, not the result.
    implementation: a name in the table `SSD`, or "auto".

    Returns y in the dtype of x, and the state in at least float32, or None without `return_state`.
    Raises ValueError, while tracing, for an implementation that is unknown or cannot compute this
    here. Equations: Mamba-2, arXiv 2405.21060, section 6.
    """
    stateful = return_state or initial is not None
    sizes = {"heads": x.shape[2], "dim": x.shape[3], "state_size": b.shape[2]}
    picked = SSD.pick(implementation, **sizes, stateful=stateful, dtype=x.dtype)
    return picked(
        x,
        dt,
        decay_rate,
        b,
        c,
        skip=skip,
        initial=initial,
        return_state=return_state,
        chunk=chunk,
    )
