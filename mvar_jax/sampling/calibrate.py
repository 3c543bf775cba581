"""Calibration: statistics of a model's attention while it samples with the full cache."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import in_32_bits
from mvar_jax.cache import Profile
from mvar_jax.cache.observation import ObservedCache, Statistics, observe_full
from mvar_jax.models import Memory
from mvar_jax.sampling.generate import generate_scales
from mvar_jax.sampling.request import Request, Sampler, Weights, split_request


class Calibration(NamedTuple):
    """A profile, and the queries and keys of one image at the last scale, for plots.

    Queries are [layers, heads, n, dim], keys [layers, heads, total, dim].
    """

    profile: Profile
    query: np.ndarray
    key: np.ndarray


@in_32_bits
def calibrate(
    sampler: Sampler,
    weights: Weights,
    request: Request,
    *,
    checksum: str,
    batch_size: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Calibration:
    """Samples a request with the full cache and averages the attention of conditional rows.

    `checksum` names the trunk's weights, as `Model.checksum` does. `batch_size` images are drawn at
    a time; `progress` is called with the number of images done after every batch. No array of the
    size of an attention matrix is stored: queries are processed in pieces, and only sums are kept.
    """
    sums, first, done = None, None, 0
    for part in split_request(request, batch_size):
        batch = jax.device_get(_observe_batch(sampler, weights, part))
        first = first or batch
        batch = replace(batch, query=None, key=None)
        sums = batch if sums is None else jax.tree.map(np.add, sums, batch)
        done += part.keys.shape[0]
        progress(done)
    assert first is not None  # a request has an image
    mean = jax.tree.map(lambda array: array / done, sums)
    profile = Profile(
        checksum=checksum,
        sizes=sampler.scales.sizes,
        samples=done,
        head_variance=mean.variance,
        mass=mean.mass,
        selectivity=mean.selectivity,
        key_similarity=mean.similarity,
    )
    return Calibration(profile, first.query, first.key)


@partial(jax.jit, static_argnames="sampler")
def _observe_batch(sampler, weights, request):
    observation = observe_full(sampler.scales, sampler.trunk.attention_shape)
    steps = generate_scales(sampler, replace(weights, compression=observation), request)
    return _gathered(list(steps)[-1].memory)


def _gathered(memory: Memory) -> Statistics:
    """The statistics of all layers, stacked in order of depth."""
    (run,) = memory  # a full cache is one run
    caches = [layer.cache for layer in run.layers or ()]
    layers = [cache.statistics for cache in caches if isinstance(cache, ObservedCache)]

    def by_depth(*arrays):
        return jnp.stack(arrays, axis=1).reshape(-1, *arrays[0].shape[1:])

    return jax.tree.map(by_depth, *layers)
