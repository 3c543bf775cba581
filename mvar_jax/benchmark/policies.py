"""What cache policies cost: memory of an attention block, time of all scales without decoder."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from mvar_jax import cli
from mvar_jax.benchmark import common
from mvar_jax.benchmark.placed import example_request, local_mesh
from mvar_jax.benchmark.rows import Rows
from mvar_jax.cache import Compression, evicts, prepare_compression
from mvar_jax.checks import check
from mvar_jax.config import Config
from mvar_jax.evaluation.made_up import made_up_profile
from mvar_jax.evaluation.programs import MIB, compile_timed, median_seconds, program_memory
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.models import build_trunk
from mvar_jax.sampling import Sampler, Weights, generate_scales
from mvar_jax.training.weights import init_narrowed_trunk, init_tokenizer

COLUMNS = {
    "policy": ("policy", ""),
    "inherited_mib": ("inherited MiB", ".1f"),
    "attended_mib": ("attended MiB", ".1f"),
    "temporaries_mib": ("block's temporaries MiB", ".1f"),
    "block_mib": ("block MiB", ".1f"),
    "seconds": ("s an image", ".2f"),
    "of_full": ("of full", ".2f"),
    "compile_seconds": ("compile s", ".0f"),
}


def define_flags() -> None:
    """Defines the flags of this command."""
    common.define_common(repeats=3)
    common.define_schedule()
    cli.define_policies()
    flags.DEFINE_float("ratio", 0.7, "Share of all tokens that is evicted.")
    flags.DEFINE_bool("time", True, "Run all scales; without it only memory is told.")


def main() -> None:
    """The command `policies`: compiles, runs and prints a row for every policy."""
    values = flags.FLAGS
    check(0 < values.ratio < 1, f"--ratio: got {values.ratio}, expected a share above 0, below 1.")
    config, rows = common.get_config(), Rows(COLUMNS, cli.json_file())
    compressions = _compressions(config, values.policies, values.ratio)
    about = common.describe(config) | {"batch": 1}
    dtype = jnp.dtype(config.model.compute_dtype)
    with local_mesh(config, [1]):
        seconds = sampling_seconds(config, compressions, values.repeats) if values.time else {}
    cli.say(common.machine_line(about))
    for name, compression in compressions.items():
        memory = block_memory(compression, config.model.head_dim, dtype)
        row = about | {
            "policy": name,
            "ratio": values.ratio if evicts(name) else None,
            "inherited_mib": memory.inherited / MIB,
            "attended_mib": memory.attended / MIB,
            "temporaries_mib": memory.temporaries / MIB,
            "block_mib": memory.total / MIB,
        }
        if seconds:
            taken, compiled = seconds[name]
            of_full = taken / seconds["full"][0]
            row |= {"seconds": taken, "of_full": of_full, "compile_seconds": compiled}
        rows.add(row)


@dataclass(frozen=True)
class BlockMemory:
    """Bytes of one attention block at the last scale, compiled alone, two rows."""

    inherited: int  # its input cache: the plan's bytes for one layer
    attended: int  # keys and values that its queries attend to, by the plan
    temporaries: int  # of the compiled program
    total: int  # with arguments and results


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
    config: Config, compressions: dict[str, Compression], repeats: int
) -> dict[str, tuple[float, float]]:
    """Median seconds of all scales of an image with guidance, without the decoder, and compile
    seconds, under every compression."""
    sampler, request = Sampler.of(config), example_request(config, 1)
    weights = Weights(init_narrowed_trunk(config), init_tokenizer(config)).with_kernels()

    @jax.jit
    def draw(weights, request):
        return list(generate_scales(sampler, weights, request))[-1].running

    programs, compiling = {}, {}
    with TaskProgress("compiling", len(compressions), "policy") as progress:
        for name, compression in compressions.items():
            own = replace(weights, compression=compression)
            compiled, compiling[name] = compile_timed(draw, own, request)
            programs[name] = partial(compiled, own, request)
            progress.advance()
    seconds = median_seconds(programs, repeats)
    return {name: (seconds[name], compiling[name]) for name in compressions}


def _compressions(config: Config, policies: list[str], ratio: float) -> dict[str, Compression]:
    """Those of the full cache and of policies by name, for the attention over the history."""
    schedule, shape = config.tokenizer.schedule, build_trunk(config).attention_shape
    check(
        shape.layers > 0,
        f"--config: got model.pattern={config.model.pattern}, which caches nothing; expected a "
        "model with attention over the history, as VAR.",
    )
    profile, found = made_up_profile(schedule, shape), {}
    for name in ("full", *policies):
        own = ratio if evicts(name) else None
        found[name] = prepare_compression(name, schedule, shape, ratio=own, profile=profile)
    return found
