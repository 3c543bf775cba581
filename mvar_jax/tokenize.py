"""Turns the images of a split into token files, to train on; run again, it resumes.

    python -m mvar_jax.tokenize --config=configs/digits.py --workdir=runs/digits --out=runs/tokens

Then train with `--config.data.tokens=runs/tokens`. The tokenizer is that of the working directory.
"""

from absl import flags

from mvar_jax import cli
from mvar_jax.experiment.tokenization import tokenize_split
from mvar_jax.files import user_path
from mvar_jax.hub import open_workdir


def define_flags() -> None:
    """Defines the flags of this program."""
    cli.define_config()
    cli.define_distributed()
    flags.DEFINE_string("workdir", None, "Where the tokenizer is.", required=True)
    flags.DEFINE_string("out", None, "Folder to write; new, or begun before.", required=True)
    flags.DEFINE_string("split", None, "Split to read; config.data.train_split if left out.")
    flags.DEFINE_integer("crops", 1, "Crops of every image; a single one is its middle.")


def main() -> None:
    """Writes the tokens and prints their number."""
    values = flags.FLAGS
    config, out = cli.get_config(), user_path(values.out)
    cli.join()
    split = config.data.train_split if values.split is None else values.split
    workdir = open_workdir(values.workdir)
    manifest = tokenize_split(config, workdir, out, split=split, crops=values.crops)
    left_out = manifest.examples - manifest.records
    cli.say(
        f"The tokens of {manifest.records} images ({manifest.crops} crops of each) are in {out}; "
        f"{left_out} images were left out because they cannot be read."
    )


if __name__ == "__main__":
    cli.run(main, define_flags)
