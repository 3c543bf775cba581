"""Attention of some queries over all keys, as of a scale over a cache, as a GPU kernel.

In plain JAX, `ops._xla_attention`, all logits are written to memory, in float32, and their softmax
once more. Here a program holds a block of one head's queries on chip and loops over the keys.
"""

import functools

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.experimental import pallas as pl

from mvar_jax.array_types import Array, Bool, Float
from mvar_jax.ops import _xla_attention
from mvar_jax.ops.kernels.blocks_gpu import Blocks, Launch, heads_call, matmul
from mvar_jax.ops.kernels.softmax_gpu import Mixture

LEAST = 16  # tokens of a block, the fewest that tensor cores take


def attention(
    query: Float[Array, "batch heads n dim"],
    key: Float[Array, "batch heads m dim"],
    value: Float[Array, "batch heads m dim"],
    *,
    softmax_scale: float,
    mask: Bool[Array, "batch m"] | None = None,
) -> Float[Array, "batch heads n dim"]:
    """See `ops.attention.attention`; on other platforms than GPUs it is interpreted, slowly.

    Gradients are those of plain JAX: sampling needs none.
    """
    return _attention(query, key, value, mask, softmax_scale)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attention(query, key, value, mask, softmax_scale):
    _, heads, n, dim = query.shape
    m, size = key.shape[2], query.dtype.itemsize
    block, step = (max(LEAST, min(128 // size, pl.next_power_of_2(length))) for length in (n, m))
    pairs = pl.cdiv(n, block) * block * pl.cdiv(m, step) * step
    flat = rearrange(query, "b h n d -> b n (h d)")
    inputs = [("lanes", flat), ("rows", key), ("rows", value)]
    if mask is not None:
        inputs.append(("shared", mask[:, None].astype(jnp.int8)))
    (mixed,) = heads_call(
        functools.partial(_forward, block=block, step=step, softmax_scale=softmax_scale),
        inputs,
        [("lanes", flat)],
        heads=heads,
        # A warp for 16 queries of 16 bits: with more, Triton would compute tiles twice.
        launch=Launch(block, block * size // 32, 2 * 2 * pairs * dim),
    )
    return rearrange(mixed, "b n (h d) -> b h n d", h=heads)


def _attention_forward(query, key, value, mask, softmax_scale):
    return _attention(query, key, value, mask, softmax_scale), (query, key, value, mask)


def _attention_backward(softmax_scale, saved, gradient):
    *vectors, mask = saved
    plain = functools.partial(_xla_attention.attention, softmax_scale=softmax_scale, mask=mask)
    return *jax.vjp(plain, *vectors)[1](gradient), None


_attention.defvjp(_attention_forward, _attention_backward)


def _forward(query_ref, key_ref, value_ref, *refs, block, step, softmax_scale):
    *mask_ref, mixed_ref = refs
    (n, dim), m = query_ref.shape, key_ref.shape[0]
    queries, keys, own = Blocks(n), Blocks(m), pl.program_id(0) * block
    query = queries.load(query_ref, own, block)

    def add(i, mixture):
        start = i * step
        logits = matmul(query, keys.load(key_ref, start, step).T) * softmax_scale
        if mask_ref:
            seen = keys.load(mask_ref[0], start, step, 0) != 0
        else:
            seen = start + jnp.arange(step) < m
        return mixture.add(jnp.where(seen, logits, -jnp.inf), keys.load(value_ref, start, step))

    mixture = jax.lax.fori_loop(0, pl.cdiv(m, step), add, Mixture.empty(block, dim))
    queries.store(mixed_ref, own, mixture.mean)
