"""What cache policies cost at a long schedule: memory of one block, time of a whole sampler.

    python -m mvar_jax.benchmark_policies --schedule=1024 --ratio=0.7 --policies=hack,scalekv

The model has random weights: neither memory nor time depends on what it has learned.
"""

import jax
import jax.numpy as jnp
from absl import flags

from mvar_jax import cli
from mvar_jax.cache import POLICIES, parse_policy, prepare_compression
from mvar_jax.checks import check
from mvar_jax.config import ModelConfig, TokenizerConfig
from mvar_jax.evaluation.benchmark import MIB, markdown_header, markdown_line, random_arrays
from mvar_jax.evaluation.cache_benchmark import block_memory, made_up_profile, sampling_seconds
from mvar_jax.models import Trunk, example_inputs
from mvar_jax.scales import VAR_SCHEDULES
from mvar_jax.tokenizers import VQTokenizer

SCHEDULE = flags.DEFINE_enum("schedule", "1024", VAR_SCHEDULES, "Image side of VAR's schedule.")
NAMES = sorted(name for name in POLICIES if name != "full")
WANTED = flags.DEFINE_list("policies", NAMES, "As hack, scalekv@before, hack+int8, full+int8.")
RATIO = flags.DEFINE_float("ratio", 0.7, "Share of all tokens that is evicted.")
DEPTH = flags.DEFINE_integer("depth", 2, "Blocks of the sampler; 0 to leave its time out.", 0)
HEADS = flags.DEFINE_integer("heads", 4, "Heads of every block.", lower_bound=1)
DIM = flags.DEFINE_integer("dim", 64, "Channels of a head.", lower_bound=1)
REPEATS = flags.DEFINE_integer("repeats", 3, "Times that every sampler runs.", lower_bound=1)
MEMORY = ("inherited MiB", "attended MiB", "block's temporaries MiB", "block MiB")
TIME = ("s an image", "of full", "compile s")


def main() -> None:
    """Compiles, runs and prints a table."""
    check(0 < RATIO.value < 1, f"--ratio: got {RATIO.value}, expected a share above 0, below 1.")
    schedule, depth = VAR_SCHEDULES[SCHEDULE.value], max(DEPTH.value, 1)
    side = schedule.last[0]
    tokenizer = TokenizerConfig(
        image_size=(side, side),
        scales=schedule.sizes,
        vocabulary=64,
        code_channels=8,
        base_channels=8,
        channel_multipliers=(1,),
        blocks_per_level=1,
        norm_groups=4,
        attention=False,
    )
    width = HEADS.value * DIM.value
    config = ModelConfig(depth=depth, width=width, heads=HEADS.value, pattern=("history",))
    trunk = Trunk(config, schedule, tokenizer.vocabulary, tokenizer.code_channels)
    shape = trunk.attention_shape
    profile = made_up_profile(schedule, shape)
    compressions = {"full": prepare_compression("full", schedule, shape)}
    for name in WANTED.value:
        ratio = None if parse_policy(name)[0] is POLICIES["full"] else RATIO.value
        compressions[name] = prepare_compression(
            name, schedule, shape, ratio=ratio, profile=profile
        )
    seconds = {}
    if DEPTH.value:
        params = _random_params(trunk, VQTokenizer(tokenizer))
        seconds = sampling_seconds(
            trunk, VQTokenizer(tokenizer), params, compressions, REPEATS.value
        )
    header = ("policy", *MEMORY, *(TIME if seconds else ()))
    print(markdown_header(header))
    for name, compression in compressions.items():
        memory = block_memory(compression, DIM.value, jnp.float32)
        parts = (memory.inherited, memory.attended, memory.temporaries, memory.total)
        cells = [f"{part / MIB:.1f}" for part in parts]
        if seconds:
            taken, compiled = seconds[name]
            cells += [f"{taken:.2f}", f"{taken / seconds['full'][0]:.2f}", f"{compiled:.0f}"]
        print(markdown_line((name, *cells)), flush=True)


def _random_params(trunk: Trunk, tokenizer: VQTokenizer):
    """Parameters of both, normal with a small spread."""
    side = tokenizer.config.image_size

    def start(key):
        one, other = jax.random.split(key)
        return {
            "trunk": trunk.init(one, *example_inputs(trunk))["params"],
            "tokenizer": tokenizer.init(other, jnp.zeros((1, *side, 3)))["params"],
        }

    return random_arrays(jax.eval_shape(start, jax.random.key(0)), spread=0.02)


if __name__ == "__main__":
    cli.run(main)
