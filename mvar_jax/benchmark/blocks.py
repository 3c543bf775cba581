"""The command `blocks`: the blocks of training against naive forms, in time and memory."""

from absl import flags

from mvar_jax import cli
from mvar_jax.benchmark import common
from mvar_jax.benchmark.naive_forms import PASSES, measure, training_blocks
from mvar_jax.benchmark.rows import Rows
from mvar_jax.checks import check
from mvar_jax.evaluation.programs import MIB
from mvar_jax.mesh.progress import TaskProgress

COLUMNS = {
    "block": ("block", ""),
    "pass": ("pass", ""),
    "form": ("form", ""),
    "milliseconds": ("ms", ".1f"),
    "seconds_of_naive": ("of naive", ".2f"),
    "temporaries_mib": ("temporaries MiB", ".1f"),
    "temporaries_of_naive": ("of naive", ".2f"),
    "compile_seconds": ("compile s", ".1f"),
    "compile_of_naive": ("of naive", ".2f"),
}


def define_flags() -> None:
    """Defines the flags of this command."""
    common.define_common(repeats=9)
    common.define_schedule()
    flags.DEFINE_integer("batch", 1, "Images at once.", lower_bound=1)


def main() -> None:
    """Compiles, runs and prints a row for every form in every pass; the naive form comes first."""
    config, values = common.get_config(), flags.FLAGS
    check(
        any(kind.ssm for kind in config.model.kinds),
        f"--config: got model.pattern={config.model.pattern}, expected one of an M-VAR.",
    )
    about = common.describe(config) | {"batch": values.batch}
    rows = Rows(COLUMNS, cli.json_file())
    cli.say(common.machine_line(about))
    blocks = training_blocks(config.model, config.tokenizer.schedule, values.batch)
    runs = [(block, passes) for block in blocks for passes in PASSES]
    with TaskProgress("measuring", len(runs), "pass") as progress:
        for block, passes in runs:
            costs = measure(block, passes, values.repeats)
            naive = next(iter(costs.values()))
            for form, cost in costs.items():
                rows.add(
                    about
                    | {
                        "block": block.name,
                        "pass": passes,
                        "form": form,
                        "milliseconds": 1e3 * cost.seconds,
                        "seconds_of_naive": cost.seconds / naive.seconds,
                        "temporaries_mib": cost.temporaries / MIB,
                        "temporaries_of_naive": cost.temporaries / naive.temporaries,
                        "compile_seconds": cost.compile_seconds,
                        "compile_of_naive": cost.compile_seconds / naive.compile_seconds,
                    }
                )
            progress.advance()
