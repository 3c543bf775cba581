"""Mamba-2's selective state-space layer in its chunked, matmul form, in plain JAX."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.implementations import platform

CPU_CHUNK = 64  # at most: longer ones take CPUs more arithmetic for pairs of tokens than they save
BLOCK = 32  # tokens over which decays are summed directly, see _LogDecays


def ssd(
    x: Float[Array, "batch n heads dim"],
    dt: Float[Array, "batch n heads"],
    decay_rate: Float[Array, "heads"],
    b: Float[Array, "batch n state"],
    c: Float[Array, "batch n state"],
    *,
    skip: Float[Array, "heads"] | None,
    initial: Float[Array, "batch heads dim state"] | None,
    return_state: bool,
    chunk: int,
) -> tuple[Float[Array, "batch n heads dim"], Float[Array, "batch heads dim state"] | None]:
    """See `ops.ssd`.

    Inside a chunk tokens mix by masked matmuls; the states of the chunks are joined by an
    associative scan (arXiv 2405.21060, section 6).
    """
    if platform() == "cpu":
        chunk = min(chunk, CPU_CHUNK)
    y, final = _recurrence(x, dt, decay_rate, b, c, initial, min(chunk, x.shape[1]))
    if skip is not None:
        y = y + skip.astype(x.dtype)[:, None] * x
    return y, final if return_state else None


def _recurrence(x, dt, decay_rate, b, c, initial, chunk):
    """The outputs without the skip, and the state after the last token.

    The sequence is padded to whole chunks with steps of size 0, which neither decay nor write the
    state.
    """
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    length = x.shape[1]
    x, dt, b, c = (_split(array, chunk) for array in (x, dt.astype(dtype), b, c))
    decays = _log_decays(dt * decay_rate.astype(dtype))

    y = _inside(x, dt, decays, b, c)
    states = _chunk_states(x, dt, decays, b)
    before, final = _carry(states, decays.total, initial)
    if x.shape[1] > 1 or initial is not None:
        y = y + _from_state(before, decays, c, x.dtype)
    return rearrange(y, "b k q h d -> b (k q) h d")[:, :length], final


def _split(array, size, axis=1):
    """Cuts an axis into [pieces, size], the end filled with zeros."""
    padding = -array.shape[axis] % size
    if padding:
        array = jnp.pad(array, [(0, padding if i == axis else 0) for i in range(array.ndim)])
    return array.reshape(*array.shape[:axis], -1, size, *array.shape[axis + 1 :])


class _LogDecays(NamedTuple):
    """Sums of `dt * a` within each chunk, computed block by block.

    The log decay from token j to token i is the sum over the tokens after j up to i. Computed as a
    difference of two cumulative sums it loses digits to the magnitude of those sums, in its
    gradient even more than in its value. Therefore tokens are summed within blocks of `BLOCK`
    tokens, and blocks separately: only pairs with whole blocks between them use a difference of
    long sums. All are [batch, chunks, chunk, heads], except the total.
    """

    head: Array  # from the start of the token's block to the token
    tail: Array  # from after the token to the end of its block
    start: Array  # from the start of the chunk to the start of the block
    end: Array  # from the start of the chunk to the end of the block
    total: Array  # over the whole chunk, [batch, chunks, heads]


def _log_decays(steps):
    chunk = steps.shape[2]
    head = jnp.cumsum(_split(steps, min(BLOCK, chunk), axis=2), axis=3)
    sums = head[:, :, :, -1:]
    end = jnp.cumsum(sums, axis=2)
    start = jnp.pad(end[:, :, :-1], [(0, 0), (0, 0), (1, 0), (0, 0), (0, 0)])

    def per_token(array):
        array = jnp.broadcast_to(array, head.shape)
        return rearrange(array, "b k blocks q h -> b k (blocks q) h")[:, :, :chunk]

    return _LogDecays(*map(per_token, (head, sums - head, start, end)), end[:, :, -1, 0])


def _pairwise(decays):
    """Log decay from token j to token i, -inf where j is after i: [batch, chunks, heads, i, j]."""
    head, tail, start, end = (rearrange(a, "b k q h -> b k h q") for a in decays[:4])
    token = jnp.arange(head.shape[-1])
    blocks_apart = token[:, None] // BLOCK - token // BLOCK
    # The blocks between both tokens. Selected by `where` and not left to cancel, for the gradient.
    between = jnp.where(blocks_apart > 1, start[..., :, None] - end[..., None, :], 0)
    far = (head[..., :, None] + tail[..., None, :]) + between
    near = head[..., :, None] - head[..., None, :]
    log_decay = jnp.where(blocks_apart > 0, far, near)
    # Masked before the exponential, which would overflow above the diagonal, as its gradient would.
    return jnp.where(token[:, None] >= token, log_decay, -jnp.inf)


def _inside(x, dt, decays, b, c):
    """The part of the output from tokens of the same chunk: ((C B^T) * decay * dt) X."""
    weights = jnp.exp(_pairwise(decays)) * rearrange(dt, "b k s h -> b k h 1 s")
    overlap = jnp.einsum("bkqn,bksn->bkqs", c, b, preferred_element_type=dt.dtype)
    mixing = (overlap[:, :, None] * weights).astype(x.dtype)
    return jnp.einsum("bkhqs,bkshd->bkqhd", mixing, x)


def _chunk_states(x, dt, decays, b):
    """The final state of each chunk, from a zero state before it."""
    to_end = decays.tail + (decays.total[:, :, None] - decays.end)
    weighted = (x * (jnp.exp(to_end) * dt)[..., None]).astype(x.dtype)
    return jnp.einsum("bkshd,bksn->bkhdn", weighted, b, preferred_element_type=dt.dtype)


def _carry(states, log_decay, initial):
    """States before every chunk and after the last one, from the states of single chunks."""
    if initial is None:
        initial = jnp.zeros_like(states[:, 0])
    initial = initial.astype(states.dtype)
    decay = jnp.exp(log_decay)[..., None, None]
    states = states.at[:, 0].add(initial * decay[:, 0])

    def join(left, right):
        return left[0] * right[0], left[1] * right[0] + right[1]

    _, after = jax.lax.associative_scan(join, (decay, states), axis=1)
    return jnp.concatenate([initial[:, None], after[:, :-1]], axis=1), after[:, -1]


def _from_state(before, decays, c, dtype):
    """The part of the output from all earlier chunks, read from the state before the chunk."""
    state = before.astype(c.dtype)
    read = jnp.einsum("bkqn,bkhdn->bkqhd", c, state, preferred_element_type=before.dtype)
    return (read * jnp.exp(decays.start + decays.head)[..., None]).astype(dtype)
