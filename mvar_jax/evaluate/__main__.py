"""Evaluates a trained model: draws the images that scores are computed from.

    python -m mvar_jax.evaluate sample --workdir=DIR --num=50000 --preset=fid --out=DIR2
    python -m mvar_jax.evaluate sample --workdir=DIR --prompts=evaluation_metadata.jsonl \
        --layout=geneval --out=DIR2

`sample` draws exactly so many images, of all classes in turn or of prompts, and resumes where it
was interrupted. What it writes is DIR2/samples.npz, or the pictures of a benchmark, and a manifest.
"""

from mvar_jax import cli
from mvar_jax.evaluate import sample

COMMANDS = {"sample": (sample.main, sample.define_flags)}

if __name__ == "__main__":
    cli.run_command(COMMANDS)
