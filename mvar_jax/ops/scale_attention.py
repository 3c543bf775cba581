"""Attention over a joined sequence of scales."""

from collections.abc import Sequence

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.attention import Reach
from mvar_jax.ops.implementations import Implementation, Op
from mvar_jax.ops.kernels.requirements import gpu_heads_mismatch, heads_mismatch

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
        Implementation(
            "pallas_gpu",
            "mvar_jax.ops.kernels.scale_attention_gpu:scale_attention",
            platforms=("gpu",),
            interpreted=True,
            mismatch=gpu_heads_mismatch,
            flat_heads=True,
        ),
        Implementation("xla", "mvar_jax.ops._xla_scale_attention:scale_attention"),
    ),
)
"""`pick` takes the sizes `heads` and `dim`, the channels of a head."""


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
    """Softmax attention of every scale's tokens, all scales joined.

    query, key, value: as projected, with their biases.
    slices: the slice of the sequence that belongs to each scale; consecutive, from start to end.
    softmax_scale: factor of the logits before the softmax.
    reach: what a token attends to: "scale", its own scale (M-VAR, arXiv 2411.10433, section 3.2),
        or "history", its own and all earlier scales (VAR, arXiv 2404.02905, section 3.1).
    log_scale: if given, queries and keys are normalised first, as by `attention.cosine_normalize`.
    implementation: a name in the table `SCALE_ATTENTION`, or "auto".

    Every implementation normalises queries and keys in at least float32, casts them to the input's
    dtype, computes logits and softmax in at least float32, then multiplies by the values. Rotations
    of positions would come between normalisation and cast. The result has the input's dtype. Raises
    ValueError, while tracing, for an implementation that is unknown or cannot compute this here.
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
