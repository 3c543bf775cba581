"""Softmax attention of queries over keys in plain JAX."""

from functools import partial

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Bool, Float
from mvar_jax.ops.parts import parts_of

LOGITS_AT_ONCE = 2**22  # of one row and head


def attention(
    query: Float[Array, "batch heads n dim"],
    key: Float[Array, "batch heads m dim"],
    value: Float[Array, "batch heads m dim"],
    *,
    softmax_scale: float,
    mask: Bool[Array, "batch m"] | None = None,
) -> Float[Array, "batch heads n dim"]:
    """See `ops.attention.attention`.

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
