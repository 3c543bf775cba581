"""Any number of images in batches of few sizes, so that few programs are compiled."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import numpy as np

from mvar_jax.array_types import Int, PyTree, in_32_bits
from mvar_jax.checks import check_integer
from mvar_jax.sampling.generate import stream
from mvar_jax.sampling.request import NumberedRequest, Sampler, Weights, batch_rows

Rows = Int[np.ndarray, "picked"]


def in_batches(
    program: Callable[[Rows], PyTree],
    count: int,
    batch_size: int,
    *,
    axis: int = 0,
    report: Callable[[int], None] = lambda count: None,
) -> PyTree:
    """What a program gives for `count` images, called with the rows of every batch, on the host.

    The last batch is filled up. `axis` of the results counts images; `report` is told how many a
    batch had. Raises ValueError for a batch size that is none.
    """
    check_integer("batch_size", batch_size, 1, 2**31 - 1)
    parts = []
    for rows in batch_rows(count, filled_size(count, batch_size)):
        parts.append(jax.device_get(program(rows)))
        report(len(set(rows.tolist())))
    own = (*(slice(None),) * axis, slice(count))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays, axis)[own], *parts)


def filled_size(count: int, most: int | None = None) -> int:
    """The size of the batches that images are drawn in: a power of two, or the most."""
    size = 1 << (count - 1).bit_length()
    return size if most is None else min(size, most)


@in_32_bits
def draw(program: Callable, sampler: Sampler, weights: Weights, asked: NumberedRequest) -> PyTree:
    """What `generate`, `grow` or `invert` gives for a request of numbered images."""
    return _drawn(program, sampler, weights.with_kernels(), asked)


@partial(jax.jit, static_argnames=("program", "sampler"))
def _drawn(program, sampler, weights, asked):
    # Keys are made inside: apart, they would be a program for every number of images.
    return program(sampler, weights, asked.request())


def stream_whole(
    sampler: Sampler, weights: Weights, asked: NumberedRequest
) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
    """Yields a request's images after every scale, with the tokens so far, on the host.

    All are drawn at once, in one batch that is filled up.
    """
    count = len(asked.numbers)
    tokens: tuple[np.ndarray, ...] = ()
    (rows,) = batch_rows(count, filled_size(count))
    for step in stream(sampler, weights, _with_keys(asked.images(rows))):
        images, own = jax.tree.map(lambda array: array[:count], jax.device_get(step))
        tokens += (own,)
        yield images, tokens


_with_keys = in_32_bits(jax.jit(NumberedRequest.request))
