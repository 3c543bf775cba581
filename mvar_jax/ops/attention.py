"""Softmax attention of queries over keys, and the normalisation of both before it."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Bool, Float
from mvar_jax.ops.parts import parts_of
from mvar_jax.ops.rotary import Angles, rotate

MAX_LOG_SCALE = 4.605170185988092  # log(100), the ceiling of the learned logit scale
LOGITS_AT_ONCE = 2**22  # of one row and head
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


def attention(
    query: Float[Array, "batch heads n dim"],
    key: Float[Array, "batch heads m dim"],
    value: Float[Array, "batch heads m dim"],
    *,
    softmax_scale: float,
    mask: Bool[Array, "batch m"] | None = None,
) -> Float[Array, "batch heads n dim"]:
    """Softmax attention of every query over all keys; logits and softmax in at least float32.

    With a `mask` only the keys where it is true are attended to; each row needs one.
    If a head has more than `LOGITS_AT_ONCE` logits, accelerators process the queries in equal
    parts, one after another, so that memory does not grow with the product of both lengths. XLA
    for CPUs fuses everything into one kernel that stores no logits; parts would halve its speed.
    """
    parts = parts_of(query.shape[2] * key.shape[2], LOGITS_AT_ONCE)
    whole = partial(_attend, softmax_scale=softmax_scale, mask=mask)
    if parts == 1:
        return whole(query, key, value)
    in_parts = partial(attend_in_parts, softmax_scale=softmax_scale, parts=parts, mask=mask)
    return jax.lax.platform_dependent(query, key, value, cpu=whole, default=in_parts)


def attend_in_parts(
    query: Float[Array, "batch heads n dim"],
    key: Float[Array, "batch heads m dim"],
    value: Float[Array, "batch heads m dim"],
    *,
    softmax_scale: float,
    parts: int,
    mask: Bool[Array, "batch m"] | None = None,
) -> Float[Array, "batch heads n dim"]:
    """Softmax attention with the queries in `parts` parts, one after another."""
    padding = -query.shape[2] % parts
    padded = jnp.pad(query, ((0, 0), (0, 0), (0, padding), (0, 0)))
    split = jnp.moveaxis(padded.reshape(*query.shape[:2], parts, -1, query.shape[3]), 2, 0)
    attend = partial(_attend, key=key, value=value, softmax_scale=softmax_scale, mask=mask)
    mixed = jnp.moveaxis(jax.lax.map(attend, split), 0, 2)
    return mixed.reshape(padded.shape)[:, :, : query.shape[2]]


def _attend(query, key, value, softmax_scale, mask):
    dtype = jnp.promote_types(query.dtype, jnp.float32)
    logits = jnp.einsum("bhnd,bhmd->bhnm", query, key, preferred_element_type=dtype)
    logits = logits * softmax_scale
    if mask is not None:
        logits = jnp.where(mask[:, None, None], logits, -jnp.inf)
    weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    return jnp.einsum("bhnm,bhmd->bhnd", weights, value)


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
