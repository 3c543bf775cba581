"""Which tokens of a joined sequence of scales see each other, for the attention kernels of GPUs.

A program has a block of queries, which see a span of keys, or of keys, which a span of queries
sees. Spans follow from positions and the starts of the scales; no mask is read from memory.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Bool, Int
from mvar_jax.ops.kernels.joined_scales import Static

Span = tuple[int | Array, int | Array]  # start and stop
Others = Callable[[Span, Static], Span]  # the span that tokens of a scale need
Carry = TypeVar("Carry")


def keys_of(scale: Span, static: Static) -> Span:
    """The keys that queries of a scale see."""
    return scale if static.reach == "scale" else (0, scale[1])


def queries_of(scale: Span, static: Static) -> Span:
    """The queries that see keys of a scale."""
    return scale if static.reach == "scale" else (scale[0], static.total)


class Spans(NamedTuple):
    """What each token of a program needs, and what all of them together."""

    first: Int[Array, "n"]
    stop: Int[Array, "n"]
    all: Span


def spans_of(own: Int[Array, ""], size: int, others: Others, static: Static) -> Spans:
    """The spans of a program of `size` tokens from `own` on."""

    def span(position):
        start, stop = jnp.zeros_like(position), jnp.full_like(position, static.slices[0][1])
        for scale in static.slices[1:]:
            start = jnp.where(position >= scale[0], scale[0], start)
            stop = jnp.where(position >= scale[0], scale[1], stop)
        return others((start, stop), static)

    first, stop = (jnp.broadcast_to(bound, size) for bound in span(own + jnp.arange(size)))
    return Spans(first, stop, (span(own)[0], span(own + size - 1)[1]))


def inside(spans: Spans, start: Int[Array, ""], size: int) -> Bool[Array, "n size"]:
    """Which of `size` tokens from `start` on lie within each token's span."""
    position = start + jnp.arange(size)
    return (position >= spans.first[:, None]) & (position < spans.stop[:, None])


def steps(spans: Spans, size: int) -> Span:
    """The blocks of `size` tokens that a program needs."""
    first, stop = spans.all
    return jax.lax.div(first, size), jax.lax.div(stop + size - 1, size)


def loop(
    spans: Spans, size: int, step: Callable[[Int[Array, ""], Carry], Carry], carry: Carry
) -> Carry:
    """Carries a value through the blocks that a program needs; `step` gets a block's start."""
    first, stop = steps(spans, size)
    return jax.lax.fori_loop(first, stop, lambda i, carry: step(i * size, carry), carry)


def flops_of(static: Static, block: int, step: int, others: Others) -> int:
    """FLOPs of one matmul per pair of blocks, of one head of one image."""

    def scale(position):
        return next(own for own in static.slices if position < own[1])

    pairs = 0
    for own in range(0, static.total, block):
        last = min(own + block, static.total) - 1
        first, stop = int(others(scale(own), static)[0]), int(others(scale(last), static)[1])
        pairs += -(-stop // step) - first // step
    return 2 * pairs * block * step * static.dim
