"""Mamba-2's state-space layer as one TPU kernel, forward and backward.

In plain JAX, `ops._xla_ssd`, the decays between all pairs of tokens of a chunk are written to
memory, per head and in float32. Here a program loops over the chunks of one sequence and a few
heads with the state on chip; only inputs and outputs are read from and written to memory. The
backward pass first runs forward to recompute the states, then backward.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.kernels.lanes import (
    add_column,
    column,
    group_heads,
    lane_sum,
    lanewise,
    sequence_call,
)
from mvar_jax.ops.kernels.recurrence import on_flat_heads
from mvar_jax.ops.kernels.requirements import LANES
from mvar_jax.ops.kernels.shared import product

CHUNK = 128  # tokens that are mixed by one matmul
KINDS = ("lanes", "heads", "heads", "shared", "shared", "heads")  # x, dt, decay, b, c, skip


def ssd(
    x: Float[Array, "batch n heads dim"],
    dt: Float[Array, "batch n heads"],
    decay_rate: Float[Array, "heads"],
    b: Float[Array, "batch n state"],
    c: Float[Array, "batch n state"],
    *,
    skip: Float[Array, "heads"] | None,
    initial: None,
    return_state: Literal[False],
    chunk: int,
) -> tuple[Float[Array, "batch n heads dim"], None]:
    """See `ops.ssd`; without initial and final state, in chunks of `CHUNK` tokens.

    On other platforms than TPUs it is interpreted, slowly.
    """
    return on_flat_heads(_ssd, x, dt, decay_rate, b, c, skip=skip, chunk=CHUNK), None


@jax.custom_vjp
def _ssd(x, dt, decay, b, c, skip):
    heads, length = dt.shape[2], x.shape[1]
    body = functools.partial(_forward, chunks=_chunks(length), dim=x.shape[2] // heads)
    flops = _flops(x, b, heads, whole=1, per_head=1, with_state=2)
    scratch = ((b.shape[2], LANES),)
    inputs = list(zip(KINDS, (x, dt, decay, b, c, skip)))
    return sequence_call(body, inputs, inputs[:1], scratch, flops)[0]


def _ssd_forward(*inputs):
    return _ssd(*inputs), inputs


def _ssd_backward(saved, gradient):
    x, dt, decay, b, c, skip = saved
    heads, chunks = dt.shape[2], _chunks(x.shape[1])
    body = functools.partial(_backward, chunks=chunks, dim=x.shape[2] // heads)
    wide = jax.ShapeDtypeStruct(b.shape, jnp.float32)
    flops = _flops(x, b, heads, whole=3, per_head=2, with_state=6)
    state = (b.shape[2], LANES)
    scratch = ((len(chunks), *state), state)
    outputs = list(zip(KINDS, (x, dt, decay, wide, wide, skip)))
    inputs = [("lanes", gradient), *zip(KINDS, saved)]
    dx, ddt, ddecay, db, dc, dskip = sequence_call(body, inputs, outputs, scratch, flops)
    return dx, ddt, ddecay, db.astype(b.dtype), dc.astype(c.dtype), dskip


_ssd.defvjp(_ssd_forward, _ssd_backward)


def _chunks(length: int) -> list[tuple[int, int]]:
    """First token and length of every chunk."""
    return [(start, min(CHUNK, length - start)) for start in range(0, length, CHUNK)]


def _flops(x, b, heads, whole, per_head, with_state) -> int:
    """FLOPs for one image, from three counts of matmuls.

    whole: of a chunk with itself, shared by all heads; per_head: the same for every head;
    with_state: of a chunk with the state.
    """
    length, inner = x.shape[1:]
    squares = sum(size * size for _, size in _chunks(length))
    groups, state = inner // LANES, b.shape[2]
    shared = whole * squares * state * groups
    own = per_head * squares * LANES * heads
    return 2 * (shared + own + with_state * length * state * inner)


class _Decays(NamedTuple):
    """Factors of one chunk, each broadcast to the lanes of its head."""

    read: Array  # decay of the state before the chunk up to each token, [q, lanes]
    write: Array  # decay from each token to the end of the chunk, without its step, [q, lanes]
    step: Array  # step sizes, [q, lanes]
    keep: Array  # decay of the state over the whole chunk, [1, lanes]


def _forward(x_ref, dt_ref, decay_ref, b_ref, c_ref, skip_ref, y_ref, state, *, chunks, dim):
    heads = group_heads(dt_ref.shape[2], dim)
    skip = lanewise(skip_ref[0], heads)
    state[...] = jnp.zeros_like(state)
    for start, size in chunks:
        rows = pl.ds(start, size)
        x, b, c = x_ref[0, rows], b_ref[0, rows], c_ref[0, rows]
        dt, decay = dt_ref[0, rows], decay_ref[0, rows]
        factors = _spread(dt, decay, heads)
        y = skip * x + factors.read * product("qn,nc->qc", c, state[...].astype(c.dtype))
        overlap = product("qn,kn->qk", c, b)
        for head, lanes in heads:
            mixing = overlap * _pairwise(column(decay, head)) * _row(dt, head)
            y += jnp.where(lanes, product("qk,kc->qc", mixing.astype(x.dtype), x), 0)
        y_ref[0, rows] = y.astype(y_ref.dtype)
        state[...] = _next_state(state[...], x, b, factors)


def _backward(
    dy_ref, x_ref, dt_ref, decay_ref, b_ref, c_ref,
    skip_ref, dx_ref, ddt_ref, ddecay_ref, db_ref, dc_ref, dskip_ref, states, dstate,
    *, chunks, dim,
):  # fmt: skip
    heads = group_heads(dt_ref.shape[2], dim)

    @pl.when(pl.program_id(1) == 0)
    def _():
        for shared in (ddt_ref, ddecay_ref, db_ref, dc_ref, dskip_ref):
            shared[...] = jnp.zeros_like(shared)

    states[0] = jnp.zeros_like(states[0])
    for i, (start, size) in enumerate(chunks[:-1]):
        rows = pl.ds(start, size)
        factors = _spread(dt_ref[0, rows], decay_ref[0, rows], heads)
        states[i + 1] = _next_state(states[i], x_ref[0, rows], b_ref[0, rows], factors)
    skip = lanewise(skip_ref[0], heads)
    dstate[...] = jnp.zeros_like(dstate)
    for i, (start, size) in reversed(list(enumerate(chunks))):
        rows = pl.ds(start, size)
        x, dy, b, c = x_ref[0, rows], dy_ref[0, rows], b_ref[0, rows], c_ref[0, rows]
        dt, decay, dtype = dt_ref[0, rows], decay_ref[0, rows], x.dtype
        factors = _spread(dt, decay, heads)
        state, after = states[i], dstate[...]

        # What the tokens read from the state before the chunk.
        dread = (dy * factors.read).astype(dtype)
        dc = product("qc,nc->qn", dread, state.astype(dtype))
        by_read = dy * factors.read * product("qn,nc->qc", c, state.astype(dtype))
        # What they write to the state after it.
        written = product("qn,nc->qc", b, after.astype(dtype))
        dx = skip * dy + written * factors.write * factors.step
        weighted = (x * (factors.write * factors.step)).astype(dtype)
        db = product("qc,nc->qn", weighted, after.astype(dtype))
        by_step = x * written * factors.write
        by_write = by_step * factors.step
        by_skip = jnp.sum(dy.astype(jnp.float32) * x, axis=0, keepdims=True)
        by_keep = jnp.sum(after * state, axis=0, keepdims=True) * factors.keep
        dstate[...] = after * factors.keep + product("qn,qc->nc", c, dread)

        # What they receive from each other.
        overlap, doverlap = product("qn,kn->qk", c, b), jnp.zeros((size, size), jnp.float32)
        is_last = jax.lax.broadcasted_iota(jnp.int32, (size, 1), 0) == size - 1
        for head, lanes in heads:
            own_dy = jnp.where(lanes, dy, 0)
            between, step = _pairwise(column(decay, head)), _row(dt, head)
            dmixing = product("qc,kc->qk", own_dy, x) * between
            mixing = (overlap * between * step).astype(dtype)
            dx += product("qk,qc->kc", mixing, own_dy)
            doverlap += dmixing * step
            by_pair = dmixing * overlap
            total = lane_sum(by_write, lanes)
            at_end = jnp.sum(total) + jnp.sum(jnp.where(lanes, by_keep, 0))
            ddt = jnp.sum(by_pair.T, axis=1, keepdims=True) + lane_sum(by_step, lanes)
            by_pair *= step
            ddecay = jnp.sum(by_pair - by_pair.T, axis=1, keepdims=True)
            ddecay += lane_sum(by_read, lanes) - total + jnp.where(is_last, at_end, 0)
            add_column(ddt_ref, rows, head, ddt)
            add_column(ddecay_ref, rows, head, ddecay)
            add_column(dskip_ref, slice(None), head, lane_sum(by_skip, lanes))
        doverlap = doverlap.astype(dtype)
        dx_ref[0, rows] = dx.astype(dtype)
        dc_ref[0, rows] += dc + product("qk,kn->qn", doverlap, b)
        db_ref[0, rows] += db + product("qk,qn->kn", doverlap, c)


def _row(array, head):
    """A head's column broadcast along the keys: [q, q] with equal rows."""
    size = array.shape[0]
    return jnp.broadcast_to(column(array, head), (size, size)).T


def _spread(dt, decay, heads) -> _Decays:
    running = lanewise(decay, heads)
    total = running[-1:]
    keep = jnp.exp(total)
    return _Decays(jnp.exp(running), jnp.exp(total - running), lanewise(dt, heads), keep)


def _pairwise(decay):
    """Decay from each token (second axis) to each later one (first axis), else 0: [q, q]."""
    size = decay.shape[0]
    decay = jnp.broadcast_to(decay, (size, size))
    later = jax.lax.broadcasted_iota(jnp.int32, (size, size), 0)
    earlier = jax.lax.broadcasted_iota(jnp.int32, (size, size), 1)
    # Masked before the exponential, which would overflow above the diagonal.
    return jnp.exp(jnp.where(later >= earlier, decay - decay.T, -jnp.inf))


def _next_state(state, x, b, factors):
    """The state after a chunk, [state, lanes]."""
    weighted = (x * (factors.write * factors.step)).astype(x.dtype)
    return state * factors.keep + product("qn,qc->nc", b, weighted)
