"""Measures generated images against real ones, and tokenizers by what they keep.

    python -m mvar_jax.evaluate metrics --samples=samples.npz --reference=VIRTUAL_imagenet256.npz \
        --inception=pt_inception-2015-12-05-6726825d.pth --out=metrics.json
    python -m mvar_jax.evaluate metrics --samples=drawn/ --reference=photos/ \
        --features=efficientnet-lite0
    python -m mvar_jax.evaluate tokenizer --workdir=runs/digits --out=tokenizer.json

--help behind a command prints its flags. docs/evaluation.md says what is comparable to what.
"""

from mvar_jax import cli
from mvar_jax.evaluate import metrics, tokenizer

COMMANDS = {
    "metrics": (metrics.main, metrics.define_flags),
    "tokenizer": (tokenizer.main, tokenizer.define_flags),
}

if __name__ == "__main__":
    cli.run_command(COMMANDS)
