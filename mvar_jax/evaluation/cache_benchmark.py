"""Costs of policies at long schedules: memory of one attention block, time of a whole sampler."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.cache import AttentionShape, Compression, Profile
from mvar_jax.config import SamplingConfig, TokenizerConfig
from mvar_jax.evaluation.benchmark import (
    compile_timed,
    median_seconds,
    program_memory,
    random_arrays,
)
from mvar_jax.models import ClassLabels, example_inputs
from mvar_jax.sampling import Filters, Sampler, Weights, generate
from mvar_jax.sampling.request import NumberedRequest
from mvar_jax.scales import ScaleSchedule


@dataclass(frozen=True)
class BlockMemory:
    """Bytes of one attention block at the last scale, compiled alone, two rows."""

    inherited: int  # its input cache: the plan's bytes for one layer
    attended: int  # keys and values that its queries attend to, by the plan
    temporaries: int  # of the compiled program
    total: int  # with arguments and results


def made_up_profile(schedule: ScaleSchedule, shape: AttentionShape) -> Profile:
    """A random profile, for plans of which only the sizes matter."""
    rng, scales = np.random.default_rng(0), len(schedule)
    return Profile(
        checksum="none",
        sizes=schedule.sizes,
        samples=1,
        head_variance=rng.random(shape, np.float32),
        mass=rng.random((*shape, scales, scales), np.float32),
        selectivity=rng.random((shape.layers, scales), np.float32),
        key_similarity=rng.random((shape.layers, scales), np.float32),
    )


def small_tokenizer(schedule: ScaleSchedule) -> TokenizerConfig:
    """A tokenizer with one pixel per token, whose time is negligible beside a trunk's."""
    return TokenizerConfig(
        image_size=schedule.last,
        scales=schedule.sizes,
        vocabulary=64,
        code_channels=8,
        base_channels=8,
        channel_multipliers=(1,),
        blocks_per_level=1,
        norm_groups=4,
        attention=False,
    )


def random_weights(sampler: Sampler) -> Weights:
    """Random parameters of trunk and tokenizer, normal with a small standard deviation."""
    trunk, tokenizer = sampler.trunk, sampler.tokenizer
    side = tokenizer.config.image_size

    def start(key):
        one, other = jax.random.split(key)
        return Weights(
            trunk=trunk.init(one, *example_inputs(trunk))["params"],
            tokenizer=tokenizer.init(other, jnp.zeros((1, *side, 3)))["params"],
        )

    return random_arrays(jax.eval_shape(start, jax.random.key(0)), spread=0.02)


def block_memory(compression: Compression, dim: int, dtype: jnp.dtype) -> BlockMemory:
    """Compiles the attention of the layer that attends to most tokens at the last scale."""
    schedule, last = compression.schedule, len(compression.schedule) - 1
    seen = [sum(g.heads * g.attend[last] for g in plan) for plan in compression.plan.layers]
    layer = int(np.argmax(seen))
    plan = compression.plan.layers[layer]
    heads = sum(group.heads for group in plan)
    token = jax.ShapeDtypeStruct((2, heads, schedule.lengths[last], dim), dtype)

    def inherited():
        cache = compression.empty_layer(layer, 2, dim, dtype)
        groups = []
        for group, empty in zip(plan, cache.groups):
            shape = (2, group.heads, group.keep[last - 1], dim)
            zeros = jnp.zeros(shape, dtype)
            groups.append(empty.append(zeros, zeros, 0))
        return replace(cache, groups=tuple(groups))

    def attend(cache, query, key, value, raw):
        return cache.attend(query, key, value, raw, dim**-0.5, last)[0]

    cache = jax.eval_shape(inherited)
    memory = program_memory(jax.jit(attend).lower(cache, *(token,) * 4).compile())
    itemsize = jnp.dtype(dtype).itemsize
    return BlockMemory(
        inherited=sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache.groups)),
        attended=2 * sum(g.heads * g.attend[last] for g in plan) * 2 * dim * itemsize,
        temporaries=memory.temporaries,
        total=memory.peak,
    )


def sampling_seconds(
    sampler: Sampler, weights: Weights, compressions: dict[str, Compression], *, repeats: int
) -> dict[str, tuple[float, float]]:
    """Median seconds per image with guidance under every compression, and compile seconds."""
    programs, compiling = {}, {}
    config = SamplingConfig(guidance=1.5, top_k=0, top_p=0.0)
    filters = Filters.of(config, len(sampler.scales))
    labels, numbers = ClassLabels(np.zeros(1, np.int32)), np.zeros(1, np.uint32)
    request = NumberedRequest(labels, np.uint32(0), numbers, filters).request()
    for name, compression in compressions.items():
        small = replace(weights, compression=compression)
        compiled, compiling[name] = compile_timed(generate, sampler, small, request)
        programs[name] = partial(compiled, small, request)
    seconds = median_seconds(programs, repeats)
    return {name: (seconds[name], compiling[name]) for name in compressions}
