"""Turns the images of a split into token files, to train on; run again, it goes on.

    python -m mvar_jax.tokenize --config=configs/digits.py --workdir=runs/digits --out=runs/tokens

Then train with `--config.data.tokens=runs/tokens`. The tokenizer is that of the working directory.
"""

from pathlib import Path

from absl import flags

from mvar_jax import cli
from mvar_jax.experiment.tokenization import tokenize_split
from mvar_jax.workdir import Workdir

WORKDIR = flags.DEFINE_string("workdir", None, "Where the tokenizer is.", required=True)
OUT = flags.DEFINE_string("out", None, "Folder to write; new, or begun before.", required=True)
SPLIT = flags.DEFINE_string("split", None, "Split to read; config.data.train_split if left out.")
CROPS = flags.DEFINE_integer("crops", 1, "Crops of every image; a single one is its middle.")


def main() -> None:
    """Writes the tokens, and says how many."""
    config, out = cli.get_config(), Path(OUT.value).expanduser()
    cli.join()
    split = config.data.train_split if SPLIT.value is None else SPLIT.value
    manifest = tokenize_split(
        config, Workdir.of(WORKDIR.value), out, split=split, crops=CROPS.value
    )
    left_out = manifest.examples - manifest.records
    cli.say(
        f"The tokens of {manifest.records} images ({manifest.crops} crops of each) are in {out}; "
        f"{left_out} images were left out because they cannot be read."
    )


if __name__ == "__main__":
    cli.define_config()
    cli.define_distributed()
    cli.run(main)
