"""Softmax attention of queries over keys in plain JAX."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from mvar_jax.array_types import Array, Bool, Float
from mvar_jax.ops.attention import KEPT
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
    """See `ops.attention.attention`."""
    seen = mask[:, None, None] if mask is not None else None
    return masked_attention(query, key, value, softmax_scale=softmax_scale, mask=seen)


def masked_attention(
    query: Float[Array, "batch heads n dim"],
    key: Float[Array, "batch heads m dim"],
    value: Float[Array, "batch heads m dim"],
    *,
    softmax_scale: float,
    mask: Bool[Array | np.ndarray, "#batch 1 #n m"] | None = None,
) -> Float[Array, "batch heads n dim"]:
    """Attention of every query over the keys where `mask`: of each row or of all, or pair by pair.

    If a head has more than `LOGITS_AT_ONCE` logits, accelerators process the queries in equal
    parts, one after another, so that memory does not grow with the product of both lengths; a mask
    of pairs has that size already, and is not cut. CPUs process rows and heads in parts of at most
    `CPU_LOGITS_AT_ONCE` logits, or one by one: larger parts take twice as long for each logit. On
    several CPUs rows are apart already.
    """
    (batch, heads, length, _), keys = query.shape, key.shape[2]
    if platform() != "cpu":
        of_pairs = mask is not None and mask.shape[2] > 1
        parts = 1 if of_pairs else parts_of(length * keys, LOGITS_AT_ONCE)
        attend = _attend_in_parts
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

    def attend(own):
        return _attend(own, key, value, softmax_scale, mask)

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
        return _attend(*own[:3], softmax_scale, own[3] if own[3:] else mask)

    given = tuple(map(split, (query, key, value)))
    if mask is not None and mask.shape[0] > 1:  # of every row its own
        given += (split(jnp.repeat(mask, query.shape[1], axis=1)),)
    mixed = jax.lax.map(attend, given)
    return mixed.reshape(*query.shape[:3], value.shape[3])


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _attend(
    query: Float[Array, "batch heads n dim"],
    key: Float[Array, "batch heads m dim"],
    value: Float[Array, "batch heads m dim"],
    softmax_scale: float,
    mask: Bool[Array | np.ndarray, "#batch 1 #n m"] | None,
) -> Float[Array, "batch heads n dim"]:
    """Attention in one part, of every query over the keys where its mask is true."""
    return _forward(query, key, value, softmax_scale, mask)[0]


def _forward(query, key, value, softmax_scale, mask):
    logits = _logits(query, key, softmax_scale, mask)
    largest = jnp.max(logits, axis=-1, keepdims=True)
    powers = jnp.exp(logits - largest)
    total = jnp.sum(powers, axis=-1, keepdims=True)
    mixed = jnp.einsum("bhnm,bhmd->bhnd", (powers / total).astype(value.dtype), value)
    sums = checkpoint_name(jnp.concatenate([largest, total], axis=-1), KEPT)
    # Not read by this gradient, but by that of the matmul that follows attention.
    return checkpoint_name(mixed, KEPT), (query, key, value, mask, sums)


def _backward(softmax_scale, kept, gradient):
    """Weights again from logits, of the bits of the forward pass.

    FlashAttention (arXiv 2205.14135) keeps one number of a query, the logarithm of the sum of all
    powers. Rounded to the digits of a large logit, it makes weights whose sum is not 1, and an
    error that all logits of the query share. Largest logit and sum apart do not. What the logits'
    gradients share is summed over keys. FlashAttention takes it from the result, whose rounding to
    16 bits is larger than the gradient where attention is peaked.
    """
    query, key, value, mask, sums = kept
    largest, total = jnp.split(sums, 2, axis=-1)
    weights = jnp.exp(_logits(query, key, softmax_scale, mask) - largest) / total
    of_value = jnp.einsum("bhnm,bhnd->bhmd", weights.astype(value.dtype), gradient)
    of_weights = _product("bhnd,bhmd->bhnm", gradient, value)
    shared = jnp.sum(weights * of_weights, axis=-1, keepdims=True)
    of_logits = (weights * (of_weights - shared) * softmax_scale).astype(query.dtype)
    of_query = jnp.einsum("bhnm,bhmd->bhnd", of_logits, key)
    of_key = jnp.einsum("bhnm,bhnd->bhmd", of_logits, query)
    vectors = zip((of_query, of_key, of_value), (query, key, value))
    return *(of.astype(vector.dtype) for of, vector in vectors), None


_attend.defvjp(_forward, _backward)


def _logits(query, key, softmax_scale, mask):
    logits = _product("bhnd,bhmd->bhnm", query, key) * softmax_scale
    return logits if mask is None else jnp.where(mask, logits, -jnp.inf)


def _product(axes, left, right):
    dtype = jnp.promote_types(left.dtype, jnp.float32)
    return jnp.einsum(axes, left, right, preferred_element_type=dtype)
