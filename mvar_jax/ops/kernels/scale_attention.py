"""Attention over a joined sequence of scales as one TPU kernel, forward and backward.

In plain JAX, `ops._xla_scale_attention`, every scale's logits are written to memory, in float32 and
several times. Here a program holds the whole sequence of a few heads on chip and loops over blocks
of queries; only inputs and outputs are read from and written to memory.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.attention import Reach
from mvar_jax.ops.kernels.joined_scales import Static, with_flat_heads
from mvar_jax.ops.kernels.lanes import (
    add_column,
    group_heads,
    lane_sum,
    lanewise,
    sequence_call,
)
from mvar_jax.ops.kernels.requirements import LANES
from mvar_jax.ops.kernels.shared import product

QUERIES = 128  # in a block
KINDS = ("lanes", "lanes", "lanes", "heads")  # query, key, value, temperature


def scale_attention(
    query: Float[Array, "batch heads total dim"],
    key: Float[Array, "batch heads total dim"],
    value: Float[Array, "batch heads total dim"],
    *,
    slices: Sequence[slice],
    softmax_scale: float,
    reach: Reach,
    log_scale: Float[Array, "heads"] | None,
) -> Float[Array, "batch heads total dim"]:
    """See `ops.scale_attention`; on other platforms than TPUs it is interpreted, slowly."""
    return with_flat_heads(
        _attention,
        query,
        key,
        value,
        slices=slices,
        softmax_scale=softmax_scale,
        reach=reach,
        log_scale=log_scale,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attention(query, key, value, temperature, static):
    inputs = list(zip(KINDS, (query, key, value, temperature)))
    body = functools.partial(_forward, static=static)
    scratch, flops = (query.shape[1:2] + (LANES,),), 2 * _flops_per_product(static)
    return sequence_call(body, inputs, inputs[:1], scratch, flops)[0]


def _attention_forward(query, key, value, temperature, static):
    inputs = (query, key, value, temperature)
    return _attention(*inputs, static), inputs


def _attention_backward(static, inputs, gradient):
    body = functools.partial(_backward, static=static)
    scratch = (gradient.shape[1:2] + (LANES,),) * 3
    flops, inputs = 5 * _flops_per_product(static), list(zip(KINDS, inputs))
    return sequence_call(body, [("lanes", gradient), *inputs], inputs, scratch, flops)


_attention.defvjp(_attention_forward, _attention_backward)


def _forward(query_ref, key_ref, value_ref, temperature_ref, out_ref, keys, *, static):
    heads = group_heads(temperature_ref.shape[2], static.dim)
    temperature = lanewise(temperature_ref[0], heads)
    keys[...] = _unit(key_ref[0], heads, static)[0]
    for block in _blocks(static):
        value = value_ref[0, block.keys]
        key, dtype = keys[block.keys].astype(value.dtype), value.dtype
        query = (_unit(query_ref[0, block.rows], heads, static)[0] * temperature).astype(dtype)
        visible = _visible(block, static)
        mixed = jnp.zeros(query.shape, jnp.float32)
        for _, lanes in heads:
            weights = _weights(jnp.where(lanes, query, 0), key, visible, static.softmax_scale)
            mixed += jnp.where(lanes, product("qk,kc->qc", weights.astype(dtype), value), 0)
        out_ref[0, block.rows] = mixed.astype(dtype)


def _backward(
    gradient_ref, query_ref, key_ref, value_ref, temperature_ref,
    dquery_ref, dkey_ref, dvalue_ref, dtemperature_ref, keys, dkey, dvalue,
    *, static,
):  # fmt: skip
    heads = group_heads(temperature_ref.shape[2], static.dim)

    @pl.when(pl.program_id(1) == 0)
    def _():
        dtemperature_ref[...] = jnp.zeros_like(dtemperature_ref)

    temperature = lanewise(temperature_ref[0], heads)
    keys[...], inverse_key = _unit(key_ref[0], heads, static)
    dkey[...] = jnp.zeros_like(dkey)
    dvalue[...] = jnp.zeros_like(dvalue)
    for block in _blocks(static):
        value, gradient = value_ref[0, block.keys], gradient_ref[0, block.rows]
        key, dtype = keys[block.keys].astype(value.dtype), value.dtype
        unit, inverse = _unit(query_ref[0, block.rows], heads, static)
        query, visible = (unit * temperature).astype(dtype), _visible(block, static)
        dquery = jnp.zeros(query.shape, jnp.float32)
        for head, lanes in heads:
            own_query, own_gradient = jnp.where(lanes, query, 0), jnp.where(lanes, gradient, 0)
            weights = _weights(own_query, key, visible, static.softmax_scale)
            dweights = product("qc,kc->qk", own_gradient, value)
            # All keys of a row are here, so no softmax statistics of the forward pass are needed.
            centred = dweights - jnp.sum(weights * dweights, axis=1, keepdims=True)
            dlogits = (weights * centred * static.softmax_scale).astype(dtype)
            own_dquery = jnp.where(lanes, product("qk,kc->qc", dlogits, key), 0)
            dquery += own_dquery
            dkey[block.keys] += product("qk,qc->kc", dlogits, own_query)
            dvalue[block.keys] += product("qk,qc->kc", weights.astype(dtype), own_gradient)
            by_temperature = jnp.sum(own_dquery * unit).reshape(1, 1)
            add_column(dtemperature_ref, slice(None), head, by_temperature)
        dquery = _through_unit(dquery * temperature, unit, inverse, heads, static)
        dquery_ref[0, block.rows] = dquery.astype(dtype)
    dkey_ref[0] = _through_unit(dkey[...], keys[...], inverse_key, heads, static).astype(dtype)
    dvalue_ref[0] = dvalue[...].astype(dtype)


def _unit(array, heads, static):
    """Every head's vectors at unit length if `static.normalize`, and the factors of that, float32.

    Vectors that are not normalised are returned as they are, with None.
    """
    array = array.astype(jnp.float32)
    if not static.normalize:
        return array, None
    inverse = jnp.zeros_like(array)
    for _, lanes in heads:
        inverse = jnp.where(
            lanes, jax.lax.rsqrt(jnp.maximum(lane_sum(array**2, lanes), 1e-24)), inverse
        )
    return array * inverse, inverse


def _through_unit(gradient, unit, inverse, heads, static):
    """The gradient of vectors, from that of the normalised vectors."""
    if not static.normalize:
        return gradient
    along = jnp.zeros_like(unit)
    for _, lanes in heads:
        along = jnp.where(lanes, lane_sum(gradient * unit, lanes), along)
    return inverse * (gradient - unit * along)


def _weights(query, key, visible, softmax_scale):
    """Softmax over the visible keys, float32."""
    logits = jnp.where(visible, product("qc,kc->qk", query, key) * softmax_scale, -jnp.inf)
    weights = jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True))
    return weights / jnp.sum(weights, axis=1, keepdims=True)


class _Block(NamedTuple):
    """A block of queries and the keys that any of them attends to, as (start, stop) positions."""

    queries: tuple[int, int]
    seen: tuple[int, int]

    @property
    def rows(self):
        return pl.ds(self.queries[0], self.queries[1] - self.queries[0])

    @property
    def keys(self):
        return pl.ds(self.seen[0], self.seen[1] - self.seen[0])


def _blocks(static: Static) -> list[_Block]:
    """All queries in blocks; ranges of keys start and end at multiples of the block size."""
    total, blocks = static.total, []
    for start in range(0, total, QUERIES):
        stop = min(start + QUERIES, total)
        own = [span for span in static.slices if span[0] < stop and start < span[1]]
        first = own[0][0] // QUERIES * QUERIES if static.reach == "scale" else 0
        last = min(-(-own[-1][1] // QUERIES) * QUERIES, total)
        blocks.append(_Block((start, stop), (first, last)))
    return blocks


def _visible(block: _Block, static: Static):
    """Which keys of a block each of its queries attends to, bool [queries, keys]."""
    shape = (block.rows.size, block.keys.size)
    queries, keys = (
        _scale_of(jax.lax.broadcasted_iota(jnp.int32, shape, axis) + start, static.slices)
        for axis, start in enumerate((block.queries[0], block.seen[0]))
    )
    return queries == keys if static.reach == "scale" else queries >= keys


def _scale_of(position, slices):
    return sum((position >= start).astype(jnp.int32) for start, _ in slices[1:])


def _flops_per_product(static) -> int:
    """FLOPs for one image of one matmul per head and block, over whole groups of lanes."""
    pairs = sum(block.rows.size * block.keys.size for block in _blocks(static))
    return 2 * static.heads * pairs * LANES
