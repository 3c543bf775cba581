"""Attention over a joined sequence of scales."""

from collections.abc import Sequence

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.attention import Reach
from mvar_jax.ops.implementations import Implementation, Op
from mvar_jax.ops.kernels.requirements import heads_mismatch

SCALE_ATTENTION = Op(
    "scale_attention",
    (
        Implementation(
            "pallas_tpu",
            "mvar_jax.ops.kernels.scale_attention:scale_attention",
            platforms=("tpu",),
            interpreted=True,
            mismatch=heads_mismatch,
            flat_heads=True,
        ),
        Implementation("xla", "mvar_jax.ops._xla_scale_attention:scale_attention"),
    ),
)
"""`pick` takes the facts `heads` and `dim`, the channels of a head."""


def scale_attention(
    query: Float[Array, "batch heads total dim"],
    key: Float[Array, "batch heads total dim"],
    value: Float[Array, "batch heads total dim"],
    *,
    slices: Sequence[slice],
    softmax_scale: float,
    reach: Reach,
    log_scale: Float[Array, "heads"] | None = None,
    implementation: str = "auto",
) -> Float[Array, "batch heads total dim"]:
    """Softmax attention of every scale's tokens, all scales joined; no mask, in the input's dtype.

    query, key, value: as projected, with their biases.
    slices: where each scale lies in the sequence; they follow each other and cover it.
    softmax_scale: what products of queries and keys are multiplied by before the softmax.
    reach: what a token sees: with "scale" its own scale (M-VAR, arXiv 2411.10433, section 3.2),
        with "history" its own and all earlier ones (VAR, arXiv 2404.02905, section 3.1).
    log_scale: if given, queries and keys are normalised first, as by `attention.cosine_normalize`.
    implementation: a name in the table `SCALE_ATTENTION`, or "auto".

    In every implementation the order is: normalise queries and keys in at least float32; what acts
    on normalised vectors, as rotary positions do, comes here; cast to the input's dtype; logits
    and softmax in at least float32; values. Raises ValueError, while tracing, for an
    implementation that is unknown or cannot compute this here.
    """
    picked = SCALE_ATTENTION.pick(implementation, heads=query.shape[1], dim=query.shape[3])
    return picked(
        query,
        key,
        value,
        slices=slices,
        softmax_scale=softmax_scale,
        reach=reach,
        log_scale=log_scale,
    )
