"""A run of the tiny trunk and tokenizer, as a training leaves it, without training."""

import dataclasses

import jax

from mvar_jax.models.checksum import checksum
from mvar_jax.training.checkpoint import Checkpoints
from mvar_jax.workdir import RunRecord, Workdir
from tests.training.tiny import CONFIG, tokenizer_state, train_batches, trunk_state

STEP = 3
CLASSES = ("cat", "dog", "fox")


def save_run(folder):
    """A run that stopped before its end, as did its tokenizer's."""
    workdir = Workdir.of(folder)
    tokenizer = _save(workdir.tokenizer, tokenizer_state())
    _save(workdir, trunk_state(), checksum(tokenizer))
    workdir.save_class_names(CLASSES)
    return workdir


def _save(workdir, state, tokenizer=""):
    """A checkpoint as a training saves it, whose average is not its parameters."""
    average = jax.tree.map(lambda leaf: leaf + 1, state.average)
    state = dataclasses.replace(state, step=state.step + STEP, average=average)
    workdir.save_config(CONFIG)
    workdir.save_record(RunRecord(total_steps=10 * STEP, tokenizer=tokenizer))
    with Checkpoints(workdir.checkpoints, 1) as checkpoints:
        checkpoints.save(state, iter(train_batches()))
    return average
