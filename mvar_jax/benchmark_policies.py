"""What cache policies cost at a long schedule: memory of one block, time of a whole sampler.

    python -m mvar_jax.benchmark_policies --schedule=1024 --ratio=0.7 --policies=hack,scalekv

The model has random weights: neither memory nor time depends on what it has learned.
"""

import jax.numpy as jnp
from absl import flags

from mvar_jax import cli
from mvar_jax.cache import POLICIES, parse_policy, prepare_compression
from mvar_jax.checks import check
from mvar_jax.config import Config, ModelConfig, SamplingConfig
from mvar_jax.evaluation.benchmark import MIB, markdown_header, markdown_line
from mvar_jax.evaluation.cache_benchmark import (
    block_memory,
    made_up_profile,
    random_weights,
    sampling_seconds,
    small_tokenizer,
)
from mvar_jax.models import build_trunk
from mvar_jax.sampling import Sampler
from mvar_jax.scales import VAR_SCHEDULES
from mvar_jax.tokenizers import build_tokenizer

MEMORY = ("inherited MiB", "attended MiB", "block's temporaries MiB", "block MiB")
TIME = ("s an image", "of full", "compile s")


def define_flags() -> None:
    """Defines the flags of this program."""
    names = sorted(name for name in POLICIES if name != "full")
    flags.DEFINE_enum("schedule", "1024", VAR_SCHEDULES, "Image side of VAR's schedule.")
    flags.DEFINE_list("policies", names, "As hack, scalekv@before, hack+int8, full+int8.")
    flags.DEFINE_float("ratio", 0.7, "Share of all tokens that is evicted.")
    flags.DEFINE_integer("depth", 2, "Blocks of the sampler; 0 to leave its time out.", 0)
    flags.DEFINE_integer("heads", 4, "Heads of every block.", lower_bound=1)
    flags.DEFINE_integer("dim", 64, "Channels of a head.", lower_bound=1)
    flags.DEFINE_integer("repeats", 3, "Times that every sampler runs.", lower_bound=1)


def main() -> None:
    """Compiles, runs and prints a table."""
    values = flags.FLAGS
    check(0 < values.ratio < 1, f"--ratio: got {values.ratio}, expected a share above 0, below 1.")
    schedule = VAR_SCHEDULES[values.schedule]
    tokenizer = small_tokenizer(schedule)
    width = values.heads * values.dim
    config = ModelConfig(
        depth=max(values.depth, 1), width=width, heads=values.heads, pattern=("history",)
    )
    trunk = build_trunk(Config(model=config, tokenizer=tokenizer, sampling=SamplingConfig(top_k=0)))
    sampler = Sampler(trunk, build_tokenizer(tokenizer))
    profile = made_up_profile(schedule, trunk.attention_shape)
    compressions = {}
    for name in ("full", *values.policies):
        ratio = None if parse_policy(name)[0] is POLICIES["full"] else values.ratio
        compressions[name] = prepare_compression(
            name, schedule, trunk.attention_shape, ratio=ratio, profile=profile
        )
    seconds = {}
    if values.depth:
        weights = random_weights(sampler)
        seconds = sampling_seconds(sampler, weights, compressions, repeats=values.repeats)
    print(markdown_header(("policy", *MEMORY, *(TIME if seconds else ()))))
    for name, compression in compressions.items():
        memory = block_memory(compression, values.dim, jnp.dtype("float32"))
        parts = (memory.inherited, memory.attended, memory.temporaries, memory.total)
        cells = [f"{part / MIB:.1f}" for part in parts]
        if seconds:
            taken, compiled = seconds[name]
            cells += [f"{taken:.2f}", f"{taken / seconds['full'][0]:.2f}", f"{compiled:.0f}"]
        print(markdown_line((name, *cells)), flush=True)


if __name__ == "__main__":
    cli.run(main, define_flags, times_compilation=True)
