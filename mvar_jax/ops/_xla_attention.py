"""Softmax attention of queries over keys in plain JAX."""

from functools import partial

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Bool, Float
from mvar_jax.ops.implementations import platform
from mvar_jax.ops.parts import parts_of

LOGITS_AT_ONCE = 2**22  # of one row and head
CPU_LOGITS_AT_ONCE = 2**23  # of all rows and heads: 32 MB, a CPU's last cache


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
    parts, one after another, so that memory does not grow with the product of both lengths. CPUs
    process rows and heads in parts of at most `CPU_LOGITS_AT_ONCE` logits, as far as their number
    divides: beyond, they take twice as long for each. On several CPUs rows are apart already.
    """
    (batch, heads, length, _), keys = query.shape, key.shape[2]
    if platform() != "cpu":
        attend, parts = _attend_in_parts, parts_of(length * keys, LOGITS_AT_ONCE)
    elif jax.sharding.get_abstract_mesh().size > 1:
        return _attend(query, key, value, softmax_scale, mask)
    else:
        size = batch * heads * length * keys
        attend, parts = _attend_in_pairs, parts_of(size, CPU_LOGITS_AT_ONCE)
    if parts == 1:
        return _attend(query, key, value, softmax_scale, mask)
    return attend(query, key, value, softmax_scale, mask, parts)


def _attend_in_parts(query, key, value, softmax_scale, mask, parts):
    """Softmax attention with the queries in `parts` parts, one after another."""
    padding = -query.shape[2] % parts
    padded = jnp.pad(query, ((0, 0), (0, 0), (0, padding), (0, 0)))
    split = jnp.moveaxis(padded.reshape(*query.shape[:2], parts, -1, query.shape[3]), 2, 0)
    attend = partial(_attend, key=key, value=value, softmax_scale=softmax_scale, mask=mask)
    mixed = jnp.moveaxis(jax.lax.map(attend, split), 0, 2)
    return mixed.reshape(padded.shape)[:, :, : query.shape[2]]


def _attend_in_pairs(query, key, value, softmax_scale, mask, parts):
    """Softmax attention with the pairs of row and head in `parts` parts, or as many as divide."""
    pairs = query.shape[0] * query.shape[1]
    parts = next(n for n in range(min(parts, pairs), pairs + 1) if pairs % n == 0)

    def split(array):
        """A pair becomes a row of one head."""
        return array.reshape(parts, -1, 1, *array.shape[2:])

    def attend(own):
        return _attend(*own[:3], softmax_scale, own[3])

    if mask is not None:
        mask = jnp.repeat(mask, query.shape[1], axis=0).reshape(parts, -1, mask.shape[1])
    mixed = jax.lax.map(attend, (split(query), split(key), split(value), mask))
    return mixed.reshape(*query.shape[:3], value.shape[3])


def _attend(query, key, value, softmax_scale, mask):
    dtype = jnp.promote_types(query.dtype, jnp.float32)
    logits = jnp.einsum("bhnd,bhmd->bhnm", query, key, preferred_element_type=dtype)
    logits = logits * softmax_scale
    if mask is not None:
        logits = jnp.where(mask[:, None, None], logits, -jnp.inf)
    weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    return jnp.einsum("bhnm,bhmd->bhnd", weights, value)
