"""The arguments of the state-space kernels, for TPUs and GPUs, from those of `ops.ssd`."""

from collections.abc import Callable

import jax.numpy as jnp
from einops import rearrange

from mvar_jax.array_types import Array, Float


def on_flat_heads(
    kernel: Callable[..., Array],
    x: Float[Array, "batch n heads dim"],
    dt: Float[Array, "batch n heads"],
    decay_rate: Float[Array, "heads"],
    b: Float[Array, "batch n state"],
    c: Float[Array, "batch n state"],
    *,
    skip: Float[Array, "heads"] | None,
    chunk: int,
) -> Float[Array, "batch n heads dim"]:
    """Runs a kernel on [batch, n, heads * dim], the memory layout of x.

    kernel: a function of x, dt, the log decay from the start of a token's chunk up to and including
        the token, b, c and the skip, [batch, 1, heads] float32; all are [batch, n, width]. Being an
        argument for every image, the skip has a gradient for every image, which needs no exchange.
    chunk: tokens of a chunk.
    """
    heads, dt = x.shape[2], dt.astype(jnp.float32)
    skip = jnp.zeros(heads) if skip is None else skip
    skip = jnp.broadcast_to(skip, (x.shape[0], 1, heads))
    flat = rearrange(x, "b n h d -> b n (h d)")
    y = kernel(flat, dt, _decay_in_chunk(dt * decay_rate, chunk), b, c, skip)
    return rearrange(y, "b n (h d) -> b n h d", h=heads)


def _decay_in_chunk(steps, chunk):
    batch, length, heads = steps.shape
    padded = jnp.pad(steps, ((0, 0), (0, -length % chunk), (0, 0)))
    sums = jnp.cumsum(padded.reshape(batch, -1, chunk, heads), axis=2)
    return sums.reshape(batch, -1, heads)[:, :length]
