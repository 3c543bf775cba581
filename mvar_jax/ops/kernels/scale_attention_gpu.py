"""Attention over a joined sequence of scales as two GPU kernels, forward and backward.

In plain JAX, `ops._xla_scale_attention`, every scale's logits are written to memory, in float32 and
several times. Here a program holds a block of one head's tokens on chip and loops over the blocks
of keys that its queries see, and backward over the queries that see its keys too. Softmax runs
along the loop, and the logarithms of its sums are kept for the backward pass (FlashAttention-2,
arXiv 2307.08691, section 3.1). Every number is summed by one program in one order, without atomics,
so that training repeats bit by bit.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.experimental import pallas as pl
from jax.typing import DTypeLike

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.attention import Reach
from mvar_jax.ops.kernels.blocks_gpu import Blocks, Launch, heads_call, matmul
from mvar_jax.ops.kernels.joined_scales import with_flat_heads
from mvar_jax.ops.kernels.shared import Kind
from mvar_jax.ops.kernels.softmax_gpu import Mixture
from mvar_jax.ops.kernels.spans_gpu import flops_of, inside, keys_of, loop, queries_of, spans_of

STEP = 32  # tokens of a step of the backward loops, which hold more at a time than a forward step
KINDS: tuple[Kind, ...] = ("lanes", "lanes", "lanes", "heads")  # query, key, value, temperature
# The rows that the forward pass leaves for the backward pass, the last two if it normalises.
LOG_SUMS, QUERY_INVERSES, KEY_INVERSES = range(3)


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
    """See `ops.scale_attention`; on other platforms than GPUs it is interpreted, slowly.

    The lengths of queries and keys divide the logits, which are float32: normalised vectors are
    never rounded to the input's dtype.
    """
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
    return _attention_forward(query, key, value, temperature, static)[0]


def _attention_forward(query, key, value, temperature, static):
    inputs = (query, key, value, temperature)
    block = _block(query.dtype)
    flops = 2 * flops_of(static, block, block, keys_of)
    shape = (len(query), static.heads, 3 if static.normalize else 1, static.total)
    mixed, rows = heads_call(
        functools.partial(_forward, static=static),
        list(zip(KINDS, inputs)),
        [("lanes", query), ("rows", jax.ShapeDtypeStruct(shape, jnp.float32))],
        heads=static.heads,
        launch=Launch(block, 4 if static.dim <= 64 else 8, flops),
    )
    return mixed, (*inputs, mixed, rows)


def _attention_backward(static, saved, gradient):
    *inputs, mixed, rows = saved
    inputs, block = list(zip(KINDS, inputs)), _block(gradient.dtype)
    # The mean of a row's gradients by its weights, since that of its values is the output.
    means = mixed.astype(jnp.float32) * gradient.astype(jnp.float32)
    means = jnp.sum(rearrange(means, "b n (h d) -> b n h d", h=static.heads), axis=-1)
    means = rearrange(means, "b n h -> b h 1 n")
    # Of the temperature every block gives a part.
    parts = (len(gradient), pl.cdiv(static.total, block), static.heads)
    flops = 3 * flops_of(static, block, STEP, keys_of) + 4 * flops_of(
        static, block, STEP, queries_of
    )
    *by_vectors, by_temperature = heads_call(
        functools.partial(_backward, static=static),
        [*inputs, ("rows", rows), ("rows", means), ("lanes", gradient)],
        [*inputs[:3], ("heads", jax.ShapeDtypeStruct(parts, jnp.float32))],
        heads=static.heads,
        launch=Launch(block, 8, flops),
    )
    return *by_vectors, jnp.sum(by_temperature, axis=1, keepdims=True)


_attention.defvjp(_attention_forward, _attention_backward)


def _block(dtype: DTypeLike) -> int:
    """Tokens of a program; with more, its registers would not do."""
    return 128 // jnp.dtype(dtype).itemsize


def _forward(query_ref, key_ref, value_ref, temperature_ref, mixed_ref, rows_ref, *, static):
    blocks, size = Blocks(static.total), _block(query_ref.dtype)
    own = pl.program_id(0) * size
    query, seen = blocks.load(query_ref, own, size), spans_of(own, size, keys_of, static)
    inverse = _inverse(query, static)
    query = _Vectors(query, inverse, inverse * _logit_factor(temperature_ref, static))

    def step(start, mixture):
        key, value = (blocks.load(ref, start, size) for ref in (key_ref, value_ref))
        inverse = _inverse(key, static)
        logits = _logits(query, _Vectors(key, inverse, inverse))
        return mixture.add(jnp.where(inside(seen, start, size), logits, -jnp.inf), value)

    mixture = loop(seen, size, step, Mixture.empty(size, static.dim))
    blocks.store(mixed_ref, own, mixture.mean)
    blocks.store(rows_ref, own, mixture.log_sums, LOG_SUMS)
    if static.normalize:
        blocks.store(rows_ref, own, query.inverse, QUERY_INVERSES)
        key = blocks.load(key_ref, own, size)
        blocks.store(rows_ref, own, _inverse(key, static), KEY_INVERSES)


def _backward(
    query_ref, key_ref, value_ref, temperature_ref, rows_ref, means_ref, gradient_ref,
    dquery_ref, dkey_ref, dvalue_ref, dtemperature_ref,
    *, static,
):  # fmt: skip
    """The gradients of a block's queries, then those of its keys and values.

    In a history early tokens see few others and are seen by many: programs take about equally long.
    """
    blocks, size = Blocks(static.total), _block(query_ref.dtype)
    own, factor = pl.program_id(0) * size, _logit_factor(temperature_ref, static)
    seen, seeing = (spans_of(own, size, others, static) for others in (keys_of, queries_of))

    def load_vectors(ref, start, size, row, factor=1.0):
        inverse = blocks.load(rows_ref, start, size, row) if static.normalize else jnp.ones(size)
        return _Vectors(blocks.load(ref, start, size), inverse, inverse * factor)

    def load_queries(start, size):
        query = load_vectors(query_ref, start, size, QUERY_INVERSES, factor)
        sums, means = (
            blocks.load(rows_ref, start, size, LOG_SUMS),
            blocks.load(means_ref, start, size, 0),
        )
        return query, blocks.load(gradient_ref, start, size), sums, means

    def load_keys(start, size):
        key = load_vectors(key_ref, start, size, KEY_INVERSES)
        return key, blocks.load(value_ref, start, size)

    query, gradient, sums, means = load_queries(own, size)

    def by_keys(start, dquery):
        key, value = load_keys(start, STEP)
        weights = jnp.exp(_logits(query, key) - sums[:, None])
        weights = jnp.where(inside(seen, start, STEP), weights, 0)
        dlogits = weights * (matmul(gradient, value.T) - means[:, None])
        return dquery + matmul((dlogits * key.factor).astype(value.dtype), key.array)

    dquery = loop(seen, STEP, by_keys, jnp.zeros((size, static.dim)))
    by_temperature = jnp.sum(dquery * query.array * query.inverse[:, None]) * static.softmax_scale
    dtemperature_ref[pl.program_id(0), pl.program_id(1)] = by_temperature
    blocks.store(dquery_ref, own, _through_unit(factor * dquery, query, static))

    key, value = load_keys(own, size)

    def by_queries(start, carry):
        dkey, dvalue = carry
        query, gradient, sums, means = load_queries(start, STEP)
        weights = jnp.exp(_logits(key, query) - sums)
        weights = jnp.where(inside(seeing, start, STEP), weights, 0)
        dlogits = weights * (matmul(value, gradient.T) - means)
        dkey += matmul((dlogits * query.factor).astype(value.dtype), query.array)
        return dkey, dvalue + matmul(weights.astype(value.dtype), gradient)

    dkey, dvalue = loop(seeing, STEP, by_queries, (jnp.zeros((size, static.dim)),) * 2)
    blocks.store(dkey_ref, own, _through_unit(dkey, key, static))
    blocks.store(dvalue_ref, own, dvalue)


class _Vectors(NamedTuple):
    """Queries or keys of a block, as projected, and what their logits are multiplied by."""

    array: Array  # [n, dim]
    inverse: Array  # 1 / length, or 1 if they are not normalised, [n]
    factor: Array  # of the logits, [n]


def _inverse(array, static):
    if not static.normalize:
        return jnp.ones(len(array))
    squared = jnp.sum(array.astype(jnp.float32) ** 2, axis=1)
    return jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


def _through_unit(gradient, vectors, static):
    """The gradient of vectors, from that of the normalised vectors."""
    if not static.normalize:
        return gradient
    inverse = vectors.inverse[:, None]
    unit = vectors.array * inverse
    return inverse * (gradient - unit * jnp.sum(gradient * unit, axis=1)[:, None])


def _logit_factor(temperature_ref, static):
    """What the logits of this program's head are multiplied by."""
    return temperature_ref[0, pl.program_id(1)] * static.softmax_scale


def _logits(left, right):
    return matmul(left.array, right.array.T) * left.factor[:, None] * right.factor
