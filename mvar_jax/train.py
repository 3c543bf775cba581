"""Trains the trunk of an experiment; run again, it resumes.

    python -m mvar_jax.train --config=configs/digits.py --workdir=runs/digits

`--tokenizer` copies the tokenizer of another run; `--init` starts from another run's trunk, and
its tokenizer, to fine-tune it. With `--config.adapter.rank=16`, a low-rank adapter of the trunk of
`--base` is trained, and kept alone.
"""

from absl import flags

from mvar_jax import cli
from mvar_jax.experiment.trunk_training import train_trunk
from mvar_jax.hub import open_workdir
from mvar_jax.workdir import Workdir


def define_flags() -> None:
    """Defines the flags of this program."""
    cli.define_config()
    cli.define_distributed()
    flags.DEFINE_string("workdir", None, "Where the run is kept.", required=True)
    flags.DEFINE_string("tokenizer", None, "Working directory to copy a tokenizer from.")
    flags.DEFINE_string("init", None, "Working directory to take the first weights from.")
    flags.DEFINE_string("base", None, "Working directory of the model that an adapter changes.")


def main() -> None:
    """Trains, and prints where the result is."""
    values = flags.FLAGS
    workdir = Workdir.of(values.workdir)
    others = (values.init, values.tokenizer, values.base)
    init, tokenizer, base = (open_workdir(name) if name else None for name in others)
    config = cli.get_config()
    cli.join()
    train_trunk(config, workdir, init=init, tokenizer_from=tokenizer, base=base)
    cli.say(f"The model is in {workdir.path}; sample with python -m mvar_jax.sample.")


if __name__ == "__main__":
    cli.run(main, define_flags)
