"""How many bytes an image carries from scale to scale."""

from functools import partial

import jax

from mvar_jax.cache import memory_bytes, prepare_compression
from mvar_jax.sampling.request import Sampler, Weights, drawing


def carried_bytes(sampler: Sampler, weights: Weights) -> tuple[int, ...]:
    """Bytes of one image's memory after every scale, with guidance (two rows)."""
    caches = cache_bytes(sampler, weights)
    last = len(caches) - 1
    states = (_state_bytes(*drawing(sampler, weights, min(k + 1, last))) for k in range(last + 1))
    return tuple(cache + state for cache, state in zip(caches, states))


def cache_bytes(sampler: Sampler, weights: Weights) -> tuple[int, ...]:
    """Bytes of one image's keys and values after every scale, with guidance (two rows).

    They are those of the trunk that draws the next scale, after the last one of its own.
    """
    last = len(sampler.scales) - 1
    drawn_by = (drawing(sampler, weights, min(k + 1, last)) for k in range(last + 1))
    return tuple(_trunk_cache_bytes(*trunk)[k] for k, trunk in enumerate(drawn_by))


def _trunk_cache_bytes(sampler, weights):
    trunk, schedule, compression = sampler.trunk, sampler.scales, weights.compression
    if trunk.attention_shape.layers == 0:
        return (0,) * len(schedule)
    if compression is None:
        compression = prepare_compression("full", schedule, trunk.attention_shape)
    return compression.bytes(2, trunk.config.head_dim, trunk.dtype)


def _state_bytes(sampler, weights):
    """Bytes of what state-space layers carry, the same after every scale."""
    trunk = sampler.trunk.bind({"params": weights.trunk})
    empty = partial(trunk.empty_memory, 2, weights.compression, schedule=sampler.scales)
    return memory_bytes(jax.eval_shape(empty))
