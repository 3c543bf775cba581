"""Draws images for evaluation, measures images against real ones, and tokenizers.

    python -m mvar_jax.evaluate sample --workdir=DIR --num=50000 --preset=fid --out=DIR2
    python -m mvar_jax.evaluate metrics --samples=DIR2/samples.npz --reference=FILE --inception=FILE
    python -m mvar_jax.evaluate metrics --samples=drawn/ --reference=photos/ --features=NETWORK
    python -m mvar_jax.evaluate tokenizer --workdir=runs/digits --out=tokenizer.json

`sample` draws exactly so many images, of all classes in turn or of prompts, and resumes where it
was interrupted. docs/evaluation.md says what is comparable to what.
"""

from mvar_jax import cli
from mvar_jax.evaluate import metrics, sample, tokenizer

COMMANDS = {
    "sample": (sample.main, sample.define_flags),
    "metrics": (metrics.main, metrics.define_flags),
    "tokenizer": (tokenizer.main, tokenizer.define_flags),
}

if __name__ == "__main__":
    cli.run_command(COMMANDS)
