"""Mamba-2's state-space layer as Triton kernels for NVIDIA's GPUs, forward and backward.

In plain JAX, `ops._xla_ssd`, the decays between all pairs of tokens of a chunk are written to
memory, per head and in float32. Here they stay on chip. The forward pass loops over the chunks of a
sequence with the state in registers, and for the backward pass also writes the state before every
chunk, in the dtype in which products read it. The backward pass first does the same with the
gradient of the state, from the last chunk to the first. Then every chunk of every head is a program
by itself.

Heads share b and c. Their gradients are written per head, in the dtype of b, and summed by XLA: in
a fixed order, unlike atomic additions, so that a training repeats bit by bit.

A thread has 255 registers, and a program should need no more: what does not fit is spilled to
memory. Therefore the backward pass keeps no state in a loop, computes by parts of the channels,
and loads what it needs again rather than hold it.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.kernels.recurrence import on_flat_heads
from mvar_jax.ops.kernels.shared import on_every_device, product
from mvar_jax.ops.kernels.triton import triton_call

CHUNK = 64  # tokens that are mixed by one matmul
PARTS = 2  # programs of the forward pass that share the channels of a head
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

    On other platforms than GPUs it is interpreted, slowly.
    """
    return on_flat_heads(_ssd, x, dt, decay_rate, b, c, skip=skip, chunk=CHUNK), None


@jax.custom_vjp
def _ssd(*inputs):
    forward = functools.partial(_forward_call, save=False)
    return on_every_device(forward, _with_kinds(inputs), ("lanes",), groups=inputs[1].shape[2])[0]


def _ssd_forward(*inputs):
    forward = functools.partial(_forward_call, save=True)
    kinds = ("lanes", "lanes")
    y, states = on_every_device(forward, _with_kinds(inputs), kinds, groups=inputs[1].shape[2])
    return y, (inputs, states)


def _ssd_backward(saved, gradient):
    inputs, states = saved
    arguments = [("lanes", gradient), ("lanes", states), *_with_kinds(inputs)]
    groups, b = inputs[1].shape[2], inputs[3]
    *others, db, dc, dskip = on_every_device(_backward_call, arguments, KINDS, groups=groups)
    return *others, db.astype(b.dtype), dc.astype(b.dtype), dskip


_ssd.defvjp(_ssd_forward, _ssd_backward)


def _with_kinds(inputs):
    return list(zip(KINDS, inputs, strict=True))


def _by_head(array):
    """[batch, n, heads] as [batch, heads, n] in whole chunks, of which the end repeats the last."""
    padding = ((0, 0), (0, 0), (0, -array.shape[1] % CHUNK))
    return jnp.pad(jnp.moveaxis(array, 2, 1), padding, mode="edge")


def _forward_call(x, dt, decay, b, c, skip, *, save):
    """y; with `save` also the states before the chunks, [batch, chunks * state, heads * dim]."""
    (batch, length, inner), heads, size = x.shape, dt.shape[2], b.shape[2]
    chunks, part = -(-length // CHUNK), inner // heads // PARTS

    def head(p, image):
        return image, p // PARTS, 0

    own = pl.BlockSpec((None, length, part), lambda p, image: (image, 0, p))
    per_head = pl.BlockSpec((None, None, chunks * CHUNK), head)
    shared = pl.BlockSpec((None, length, size), lambda p, image: (image, 0, 0))
    number = pl.BlockSpec((None, None, 1), head)
    states = pl.BlockSpec((None, chunks * size, part), lambda p, image: (image, 0, p))
    inputs = (x, _by_head(dt), _by_head(decay), b, c, jnp.moveaxis(skip, 2, 1))
    made = [(jax.ShapeDtypeStruct(x.shape, x.dtype), own)]
    if save:
        shape = (batch, chunks * size, inner)
        made.append((jax.ShapeDtypeStruct(shape, x.dtype), states))
    return triton_call(
        functools.partial(_forward, length=length),
        list(zip(inputs, (own, per_head, per_head, shared, shared, number), strict=True)),
        made,
        grid=(heads * PARTS, batch),
        flops=_flops(x, b, heads, overlap=PARTS, mixing=1, with_state=2),
    )


def _backward_call(dy, states, x, dt, decay, b, c, skip):
    """The gradients of all inputs, in their shapes; those of b and c are float32."""
    (batch, length, inner), heads, size = x.shape, dt.shape[2], b.shape[2]
    chunks, dim = -(-length // CHUNK), inner // heads
    by_head = [_by_head(dt), _by_head(decay)]
    dstates = _state_gradients(dy, by_head[1], c)

    own = pl.BlockSpec((None, CHUNK, dim), lambda head, i, image: (image, i, head))
    per_head = pl.BlockSpec((None, None, CHUNK), lambda head, i, image: (image, head, i))
    shared = pl.BlockSpec((None, CHUNK, size), lambda head, i, image: (image, i, 0))
    number = pl.BlockSpec((None, None, 1), lambda head, i, image: (image, head, 0))
    state = pl.BlockSpec((None, size, dim), lambda head, i, image: (image, i, head))
    apart = pl.BlockSpec((None, None, CHUNK, size), lambda head, i, image: (image, head, i, 0))
    number_apart = pl.BlockSpec((None, None, 1), lambda head, i, image: (image, head, i))
    inputs = (dy, x, *by_head, b, c, jnp.moveaxis(skip, 2, 1), states, dstates)
    specs = (own, own, per_head, per_head, shared, shared, number, state, state)
    of_b = jax.ShapeDtypeStruct((batch, heads, length, size), b.dtype)
    of_skip = jax.ShapeDtypeStruct((batch, heads, chunks), jnp.float32)
    of_head = jax.ShapeDtypeStruct(by_head[0].shape, jnp.float32)
    dx, ddt, within, across, db, dc, dskip = triton_call(
        functools.partial(_backward, length=length),
        list(zip(inputs, specs, strict=True)),
        [
            (jax.ShapeDtypeStruct(x.shape, x.dtype), own),
            *[(of_head, per_head)] * 3,
            *[(of_b, apart)] * 2,
            (of_skip, number_apart),
        ],
        grid=(heads, chunks, batch),
        flops=_flops(x, b, heads, overlap=3, mixing=2, with_state=3),
    )
    # What the state after the sequence gives, to the last token of its chunk, which may be cut off
    # here, is 0: no state is returned.
    ddt, ddecay = (jnp.moveaxis(a, 1, 2)[:, :length] for a in (ddt, within + across))
    db, dc = (jnp.sum(a, axis=1, dtype=jnp.float32) for a in (db, dc))
    return dx, ddt, ddecay, db, dc, jnp.sum(dskip, axis=2)[:, None]


def _state_gradients(dy, decay, c):
    """The gradients of the states after the chunks, as the states before them lie in memory."""
    (batch, length, inner), (_, heads, padded), size = dy.shape, decay.shape, c.shape[2]
    rows, dim = padded // CHUNK * size, inner // heads
    states = pl.BlockSpec((None, rows, dim), lambda head, image: (image, 0, head))
    inputs = [
        (dy, pl.BlockSpec((None, length, dim), lambda head, image: (image, 0, head))),
        (decay, pl.BlockSpec((None, None, padded), lambda head, image: (image, head, 0))),
        (c, pl.BlockSpec((None, length, size), lambda head, image: (image, 0, 0))),
    ]
    return triton_call(
        functools.partial(_carry_back, length=length),
        inputs,
        [(jax.ShapeDtypeStruct((batch, rows, inner), dy.dtype), states)],
        grid=(heads, batch),
        flops=_flops(dy, c, heads, overlap=0, mixing=0, with_state=1),
    )[0]


def _flops(x, b, heads, *, overlap, mixing, with_state) -> int:
    """FLOPs of whole chunks, from three counts of matmuls per head.

    overlap, mixing: of a chunk with itself, over the width of the state, and over a head's
    channels; with_state: of a chunk with the state.
    """
    (batch, length, inner), size = x.shape, b.shape[2]
    tokens = batch * -(-length // CHUNK) * CHUNK
    within = CHUNK * (overlap * size * heads + mixing * inner)
    return 2 * tokens * (within + with_state * size * inner)


def _forward(x_ref, dt_ref, decay_ref, b_ref, c_ref, skip_ref, y_ref, *states_ref, length):
    def mix(i, state):
        rows, keep = pl.ds(i * CHUNK, CHUNK), _inside(i, length)
        x, b, c = (
            triton.load(ref.at[rows, :], mask=keep, other=0) for ref in (x_ref, b_ref, c_ref)
        )
        step, decay, total = dt_ref[rows], decay_ref[rows], decay_ref[i * CHUNK + CHUNK - 1]
        before = state.astype(x.dtype)
        for ref in states_ref:
            ref[pl.ds(i * len(state), len(state)), :] = before
        mixing = product("qn,kn->qk", c, b) * _pairwise(decay) * step
        y = product("qn,nc->qc", c, before) * jnp.exp(decay)[:, None]
        y += product("qk,kc->qc", mixing.astype(x.dtype), x) + skip_ref[0] * x
        triton.store(y_ref.at[rows, :], y.astype(x.dtype), mask=keep)
        weighted = (x * (jnp.exp(total - decay) * step)[:, None]).astype(x.dtype)
        return state * jnp.exp(total) + product("qn,qc->nc", b, weighted)

    start = jnp.zeros((b_ref.shape[1], x_ref.shape[1]), jnp.float32)
    jax.lax.fori_loop(0, dt_ref.shape[0] // CHUNK, mix, start)


def _carry_back(dy_ref, decay_ref, c_ref, dstates_ref, *, length):
    chunks, size = decay_ref.shape[0] // CHUNK, c_ref.shape[1]

    def carry(back, after):
        i = chunks - 1 - back
        rows, keep = pl.ds(i * CHUNK, CHUNK), _inside(i, length)
        dy, c = (triton.load(ref.at[rows, :], mask=keep, other=0) for ref in (dy_ref, c_ref))
        dstates_ref[pl.ds(i * size, size), :] = after.astype(dy.dtype)
        dread = (dy * jnp.exp(decay_ref[rows])[:, None]).astype(dy.dtype)
        total = decay_ref[i * CHUNK + CHUNK - 1]
        return after * jnp.exp(total) + product("qn,qc->nc", c, dread)

    jax.lax.fori_loop(0, chunks, carry, jnp.zeros((size, dy_ref.shape[1]), jnp.float32))


def _backward(
    dy_ref, x_ref, dt_ref, decay_ref, b_ref, c_ref, skip_ref, state_ref, after_ref,
    dx_ref, ddt_ref, within_ref, across_ref, db_ref, dc_ref, dskip_ref, *, length,
):  # fmt: skip
    keep, dtype = _inside(pl.program_id(1), length), x_ref.dtype

    def load(ref, own=slice(None)):
        return triton.load(ref.at[:, own], mask=keep, other=0)

    def store(ref, own, array):
        triton.store(ref.at[:, own], array.astype(ref.dtype), mask=keep)

    step, decay, total = dt_ref[...], decay_ref[...], decay_ref[CHUNK - 1]
    token, write = jnp.arange(CHUNK), jnp.exp(total - decay)

    # What the tokens (first axis) give to each other (second axis).
    weights = product("kn,qn->kq", load(b_ref), load(c_ref))
    dweights = product("kc,qc->kq", load(x_ref), load(dy_ref))
    dskip_ref[0] = jnp.sum(jnp.where(token[:, None] == token, dweights, 0))
    between = _pairwise(decay).T
    doverlap = (dweights * between * step[:, None]).astype(dtype)
    weights *= between
    by_pair = dweights * weights
    by_step = jnp.sum(by_pair, axis=1)
    within_ref[...] = jnp.sum(by_pair * step[:, None], axis=0) - by_step * step
    mixing = (weights * step[:, None]).astype(dtype)

    # What they write to the state after the chunk.
    by_write = jnp.zeros(CHUNK, jnp.float32)
    for own in _parts(x_ref.shape[1], 16):
        dy = load(dy_ref, own)
        written = product("kn,nc->kc", load(b_ref), after_ref[:, own]) * write[:, None]
        by_write += jnp.sum(load(x_ref, own) * written, axis=1)
        received = product("kq,qc->kc", mixing, dy)
        store(dx_ref, own, received + written * step[:, None] + skip_ref[0] * dy)
    ddt_ref[...] = by_step + by_write
    weighted = (load(x_ref) * (write * step)[:, None]).astype(dtype)
    for own in _parts(b_ref.shape[1], 32):
        db = product("kc,nc->kn", weighted, after_ref[own, :])
        store(db_ref, own, db + product("kq,qn->kn", doverlap, load(c_ref, own)))

    # What they read from the state before it.
    dread = (load(dy_ref) * jnp.exp(decay)[:, None]).astype(dtype)
    by_read = jnp.zeros(CHUNK, jnp.float32)
    for own in _parts(c_ref.shape[1], 32):
        dc = product("qc,nc->qn", dread, state_ref[own, :])
        by_read += jnp.sum(dc * load(c_ref, own), axis=1)
        store(dc_ref, own, dc + product("kq,kn->qn", doverlap, load(b_ref, own)))
    by_write *= step
    by_keep = jnp.sum(after_ref[...].astype(jnp.float32) * state_ref[...]) * jnp.exp(total)
    at_end = jnp.sum(by_write) + by_keep
    across_ref[...] = by_read - by_write + jnp.where(token == CHUNK - 1, at_end, 0)


def _inside(i, length):
    """Which tokens of a chunk the sequence has, [q, 1]."""
    return (i * CHUNK + jnp.arange(CHUNK) < length)[:, None]


def _parts(width, size):
    return [pl.ds(start, size) for start in range(0, width, size)]


def _pairwise(decay):
    """Decay from each token (second axis) to each later one (first axis), else 0: [q, q]."""
    token = jnp.arange(CHUNK)
    # Masked before the exponential, which would overflow above the diagonal.
    return jnp.exp(jnp.where(token[:, None] >= token, decay[:, None] - decay, -jnp.inf))
