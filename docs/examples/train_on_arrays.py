"""Trains a model further on arrays: `images`, uint8 [n, height, width, 3], and `labels`, int [n].

python docs/examples/train_on_arrays.py runs/digits mine.npz 100
"""

import sys
from dataclasses import replace

import numpy as np

import mvar_jax
from mvar_jax.config import OptimizerConfig, TrainingConfig
from mvar_jax.hub import open_workdir
from mvar_jax.training.adapted import load_whole_trunk
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.state import new_state
from mvar_jax.training.step import Frozen, make_trunk_step


def main(workdir: str, file: str, steps: str, batch: int = 16) -> mvar_jax.Model:
    """Trains the trunk on the tokens of its tokenizer, which stays as it is."""
    model, total = mvar_jax.load(workdir), int(steps)
    with np.load(file) as arrays:
        images = arrays["images"].astype(np.float32) / 127.5 - 1  # in [-1, 1]
        labels = arrays["labels"].astype(np.int32)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=4e-3), total, batch)
    given = model.trunk, model.tokenizer, optimizer
    step = make_trunk_step(*given, config=TrainingConfig(steps=total), seed=0)
    # In float32, unlike what the model holds if it computes in bfloat16.
    state = new_state(load_whole_trunk(open_workdir(workdir)).params, optimizer, ema_decay=0.0)
    for i, rows in enumerate(np.random.default_rng(0).integers(len(images), size=(total, batch))):
        data = {"image": images[rows], "label": labels[rows]}
        state, metrics = step(state, data, Frozen(model.weights.tokenizer))
        print(f"step {i + 1}: {metrics['loss']:.3f} nats per token")
    return replace(model, weights=replace(model.weights, trunk=state.params), stored=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
