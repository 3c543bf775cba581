"""Measures, on this machine, sampling, training, cache policies, and training's blocks.

    python -m mvar_jax.benchmark sample --config=configs/var_imagenet256.py:d16 --batch=1,4
    python -m mvar_jax.benchmark train --config=configs/mvar_imagenet256.py:d16 --batch=2
    python -m mvar_jax.benchmark policies --config=configs/var_imagenet256.py:d16 \
        --schedule=1024 --ratio=0.7 --policies=hack,scalekv
    python -m mvar_jax.benchmark blocks --config=configs/mvar_imagenet256.py:d16 --batch=1

Weights are those of a start: no cost depends on what a model has learned. --json keeps the rows.
"""

from mvar_jax import cli
from mvar_jax.benchmark import batches, blocks, policies, sample, train

COMMANDS = {
    "sample": (sample.main, batches.define_flags),
    "train": (train.main, batches.define_flags),
    "policies": (policies.main, policies.define_flags),
    "blocks": (blocks.main, blocks.define_flags),
}

if __name__ == "__main__":
    cli.run_command(COMMANDS, times_compilation=True)
