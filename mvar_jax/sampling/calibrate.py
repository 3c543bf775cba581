"""Calibration: what a model's attention looks like while it draws with its full cache."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Int, Key, Params
from mvar_jax.cache import Profile
from mvar_jax.cache.observation import Statistics, observe_full
from mvar_jax.models import Memory, Trunk
from mvar_jax.models.checksum import checksum
from mvar_jax.sampling.generate import Filter, generate_scales
from mvar_jax.tokenizers import VQTokenizer


class Calibration(NamedTuple):
    """A profile, and one image's queries and keys at the last scale, for pictures.

    Queries are [layers, heads, n, dim], keys [layers, heads, total, dim].
    """

    profile: Profile
    query: np.ndarray
    key: np.ndarray


def calibrate(
    trunk: Trunk,
    tokenizer: VQTokenizer,
    params: dict[str, Params],
    labels: Int[np.ndarray, "batch"],
    keys: Key[Array, "batch"],
    filters: Filter,
    batch_size: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Calibration:
    """Samples the labels with the full cache and averages the attention of conditional rows.

    `progress` is told the number of images done after every batch. Nothing of the size of an
    attention matrix is kept: queries pass in pieces, sums stay.
    """
    sums, first, done = None, None, 0
    for rows in _batches(len(labels), batch_size):
        batch = _observe_batch(trunk, tokenizer, params, labels[rows], keys[rows], filters)
        batch = jax.device_get(batch)
        first = first or batch
        batch = batch.replace(query=None, key=None)
        sums = batch if sums is None else jax.tree.map(np.add, sums, batch)
        done += len(rows)
        progress(done)
    mean = jax.tree.map(lambda array: array / done, sums)
    profile = Profile(
        checksum=checksum(params["trunk"]),
        sizes=trunk.schedule.sizes,
        samples=done,
        head_variance=mean.variance,
        mass=mean.mass,
        selectivity=mean.selectivity,
    )
    return Calibration(profile, first.query, first.key)


def _batches(count: int, size: int) -> Iterator[np.ndarray]:
    """Numbers of images, `size` at a time; the last batch may be smaller."""
    for first in range(0, count, size):
        yield np.arange(first, min(first + size, count))


@partial(jax.jit, static_argnames=("trunk", "tokenizer"))
def _observe_batch(trunk, tokenizer, params, labels, keys, filters):
    bound = trunk.bind({"params": params["trunk"]})
    tokenizer = tokenizer.bind({"params": params["tokenizer"]})
    observation = observe_full(trunk.schedule, trunk.attention_shape)
    steps = generate_scales(bound, tokenizer, labels, keys, filters, compression=observation)
    return _gathered(list(steps)[-1].memory)


def _gathered(memory: Memory) -> Statistics:
    """The statistics of all layers in order of depth, stacked."""
    (run,) = memory  # a full cache is one run
    places = [layer.cache.statistics for layer in run.layers if layer.cache is not None]

    def by_depth(*arrays):
        return jnp.stack(arrays, axis=1).reshape(-1, *arrays[0].shape[1:])

    return jax.tree.map(by_depth, *places)
