"""Softmax attention of queries over keys, and the normalisation of both before it."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Bool, Float
from mvar_jax.ops.implementations import Implementation, Op
from mvar_jax.ops.kernels.requirements import gpu_heads_mismatch
from mvar_jax.ops.rotary import Angles, rotate

MAX_LOG_SCALE = 4.605170185988092  # log(100), the ceiling of the learned logit scale
KEPT = "attention"  # the name of what the backward pass reads, for policies of rematerialisation
Reach = Literal["scale", "history"]  # whether a token sees its own scale, or all earlier ones too


def cosine_normalize(
    query: Float[Array, "batch heads n dim"],
    key: Float[Array, "batch heads n dim"],
    log_scale: Float[Array, "heads"],
    angles: Angles | None = None,
) -> tuple[Float[Array, "batch heads n dim"], Float[Array, "batch heads n dim"]]:
    """Unit-length queries and keys, the queries times `exp(min(log_scale, log 100))` per head.

    With `angles` both are rotated after that (`ops.rotary.rotate`). Computed in at least float32
    and returned in the input's dtype; the softmax scale is then 1 (VAR's `attn_l2_norm`).
    """

    def unit(x):
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        squared = jnp.sum(x * x, axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))

    temperature = jnp.exp(jnp.minimum(log_scale, MAX_LOG_SCALE))[:, None, None]
    turn = partial(rotate, angles=angles) if angles is not None else lambda x: x
    scaled, normal = turn(unit(query) * temperature), turn(unit(key))
    return scaled.astype(query.dtype), normal.astype(key.dtype)


ATTENTION = Op(
    "attention",
    (
        Implementation(
            "pallas_gpu",
            "mvar_jax.ops.kernels.attention_gpu:attention",
            platforms=("gpu",),
            interpreted=True,
            mismatch=gpu_heads_mismatch,
        ),
        Implementation("xla", "mvar_jax.ops._xla_attention:attention"),
    ),
)
"""`pick` takes the sizes `heads` and `dim`, the channels of a head."""


def attention(
    query: Float[Array, "batch heads n dim"],
    key: Float[Array, "batch heads m dim"],
    value: Float[Array, "batch heads m dim"],
    *,
    softmax_scale: float,
    mask: Bool[Array, "batch m"] | None = None,
    implementation: str = "auto",
) -> Float[Array, "batch heads n dim"]:
    """Softmax attention of every query over all keys; logits and softmax in at least float32.

    softmax_scale: factor of the logits before the softmax.
    mask: if given, only the keys where it is true are attended to; each row needs one.
    implementation: a name in the table `ATTENTION`, or "auto".

    The result has the input's dtype. There is no forward mode. Raises ValueError, while tracing,
    for an implementation that is unknown or cannot compute this here.
    """
    picked = ATTENTION.pick(implementation, heads=query.shape[1], dim=query.shape[3])
    return picked(query, key, value, softmax_scale=softmax_scale, mask=mask)


def biased_attention(
    query: Float[Array, "batch heads n dim"],
    key: Float[Array, "batch heads m dim"],
    value: Float[Array, "batch heads m dim"],
    bias: Float[Array, "heads n m"],
    mask: Bool[Array, "batch m"],
) -> Float[Array, "batch heads n dim"]:
    """Softmax attention over the keys where `mask`, with a bias on the logits and no scale.

    Logits and softmax in at least float32. Other keys have a weight of exactly 0: what they hold
    changes nothing. Without any key a query takes the mean of all values, and not NaN.
    """
    dtype = jnp.promote_types(query.dtype, jnp.float32)
    logits = jnp.einsum("bhnd,bhmd->bhnm", query, key, preferred_element_type=dtype)
    logits = jnp.where(mask[:, None, None], logits + bias.astype(dtype), jnp.finfo(dtype).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    return jnp.einsum("bhnm,bhmd->bhnd", weights, value)
