"""One layer's attention under a policy, on random tokens, as tests of several kinds run it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.cache import AttentionShape, LayerCache, prepare_compression
from mvar_jax.evaluation.made_up import made_up_profile

SHAPE = AttentionShape(layers=2, heads=4)
DIM = 8
SETTINGS = {"snapkv": {"window": 3}, "pyramidkv": {"window": 3}, "scalekv": {"grid": 2}}


class Step(NamedTuple):
    """What is seen of one scale of one layer: the cache before and after, and the attention."""

    before: LayerCache
    mixed: jax.Array
    after: LayerCache


def prepare(name, schedule, shape=SHAPE, **arguments):
    """A compression on a random profile, with windows small enough for small schedules."""
    plain = name.split("+")[0].split("@")[0]
    settings = {**SETTINGS.get(plain, {}), **arguments}
    return prepare_compression(
        name, schedule, shape, profile=made_up_profile(schedule, shape), **settings
    )


def random_tokens(schedule, batch, seed=0, dtype=jnp.float32):
    """Queries, keys, values and raw queries of every scale."""
    shape = (4, batch, SHAPE.heads, schedule.total, DIM)
    arrays = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return [jnp.asarray(arrays[..., own, :], dtype) for own in schedule.slices]


def run_layers(compression, tokens) -> list[list[Step]]:
    """All scales of every layer, on the same tokens, as steps by layer and scale."""
    layers = _run(compression, tokens)
    batch, dtype = tokens[0].shape[1], tokens[0].dtype
    steps = []
    for layer, results in enumerate(layers):
        caches = [compression.empty_layer(layer, batch, DIM, dtype), *(r[1] for r in results)]
        mixed = [result[0] for result in results]
        steps.append([Step(*step) for step in zip(caches, mixed, caches[1:])])
    return steps


@jax.jit
def _run(compression, tokens):
    # One program for all, since compiling is what takes time here.
    batch, dtype = tokens[0].shape[1], tokens[0].dtype
    layers = []
    for layer in range(SHAPE.layers):
        cache, results = compression.empty_layer(layer, batch, DIM, dtype), []
        for scale, (query, key, value, raw) in enumerate(tokens):
            mixed, cache = cache.attend(query, key, value, raw, 0.5, scale)
            results.append((mixed, cache))
        layers.append(results)
    return layers
