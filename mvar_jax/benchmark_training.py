"""Compares the blocks of training with naive forms: time, memory and compile time.

    python -m mvar_jax.benchmark_training --schedule=256 --width=256 --heads=4

The blocks are those of an M-VAR of this size, in float32; on TPUs in bfloat16, with the fused
kernels as a further form. Naive forms take gigabytes if width, batch or schedule are large.
"""

from absl import flags

from mvar_jax import cli
from mvar_jax.config import ModelConfig
from mvar_jax.evaluation.benchmark import markdown_header
from mvar_jax.evaluation.training_benchmark import (
    HEADER,
    PASSES,
    measure,
    table_lines,
    training_blocks,
)
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.ops.implementations import on_tpu
from mvar_jax.scales import VAR_SCHEDULES


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_enum("schedule", "256", VAR_SCHEDULES, "Image side of VAR's schedule.")
    flags.DEFINE_integer("width", 256, "Channels of a token.", lower_bound=1)
    flags.DEFINE_integer("heads", 4, "Heads of attention.", lower_bound=1)
    flags.DEFINE_integer("depth", 4, "Layers of the trunk.", lower_bound=1)
    flags.DEFINE_integer("batch", 1, "Images at once.", lower_bound=1)
    flags.DEFINE_integer("repeats", 9, "Times that every program runs.", lower_bound=1)


def main() -> None:
    """Compiles, runs and prints a table."""
    values = flags.FLAGS
    config = ModelConfig(
        depth=values.depth,
        width=values.width,
        heads=values.heads,
        compute_dtype="bfloat16" if on_tpu() else "float32",
    )
    blocks = training_blocks(config, VAR_SCHEDULES[values.schedule], values.batch)
    runs = [(block, passes) for block in blocks for passes in PASSES]
    progress = TaskProgress("measuring", len(runs), "pass")
    print(markdown_header(HEADER))
    for block, passes in runs:
        costs = measure(block, passes, values.repeats)
        for line in table_lines(block.name, passes, costs):
            print(line, flush=True)
        progress.advance()


if __name__ == "__main__":
    cli.run(main, define_flags, times_compilation=True)
