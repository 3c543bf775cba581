"""The training loop, for the tokenizer and the trunk alike."""

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mvar_jax.config import TrainingConfig
from mvar_jax.training.checkpoint import Checkpoints
from mvar_jax.training.metrics import MetricsLog, Row
from mvar_jax.training.progress import Progress
from mvar_jax.training.state import TrainState, place
from mvar_jax.training.stopwatch import Stopwatch

STEPS_IN_FLIGHT = 2
"""How many steps the host may be ahead of the device: enough to hide it, few batches in memory."""


@dataclass(frozen=True)
class Outcome:
    """A run's last state, the rows of its log from the first step on, and where its time went.

    `seconds` has the phases "restore", "compile", "train", "validate" and "save" of this call;
    phases that did not occur are absent. "compile" includes the first step.
    """

    state: TrainState
    history: list[Row]
    seconds: dict[str, float]


def fit(
    label: str,
    state: TrainState,
    train_step: Callable,
    evaluate: Callable,
    batches: Iterable,
    validation: Iterable,
    config: TrainingConfig,
    total_steps: int,
    directory: Path,
    frozen: tuple = (),
    begin: Callable[[], None] = lambda: None,
) -> Outcome:
    """Trains until `total_steps` updates are made, going on from the newest checkpoint.

    `train_step(state, batch, *frozen) -> (state, metrics)` and `evaluate(state, batch, *frozen)
    -> metrics` are the jitted functions of `training.step`. `state` is the one to start with and
    is given up. `batches` is an endless Grain dataset, `validation` a finite one. The run lives
    in `directory`: `checkpoints/` and `metrics.jsonl`; `label` names it in messages. `begin` is
    called once it is certain that the run can go on, before anything of an earlier one changes.

    A run that is ended at any time and started again gives the same rows and parameters as one
    that was not. Raises ValueError when the newest checkpoint is damaged or of another
    configuration, when there is no validation batch, and when the loss is not finite; what was
    saved before stays.
    """
    clock, batches = Stopwatch(), iter(batches)
    train_step, evaluate = _Program(train_step, clock), _Program(evaluate, clock)

    def due(step: int, *intervals: int) -> bool:
        return step == total_steps or any(step % every == 0 for every in intervals)

    with Checkpoints(directory / "checkpoints", config.keep_checkpoints) as checkpoints:
        with clock.phase("restore"):
            state = checkpoints.restore(state, batches) or place(state)
        begin()
        first = int(state.step)
        log = MetricsLog(directory / "metrics.jsonl", first)
        with Progress(label, first, total_steps, clock) as progress, clock.phase("train"):
            in_flight = deque()
            for step in range(first + 1, total_steps + 1):
                state, metrics = train_step(state, next(batches), *frozen)
                _limit(in_flight, metrics)
                progress.advance()
                if due(step, config.log_every, config.validate_every, config.save_every):
                    row = {"step": step, **_finite(metrics, label, step)}
                    if due(step, config.validate_every):
                        with clock.phase("validate"):
                            chosen = islice(validation, config.validation_batches)
                            row |= _validate(evaluate, state, chosen, frozen)
                    log.append(row)
                    progress.report(row)
                if due(step, config.save_every):
                    with clock.phase("save"):
                        checkpoints.save(state, batches)
        with clock.phase("save"):
            checkpoints.wait()
    batches.close()  # ends the worker processes, if any
    return Outcome(state, log.rows, clock.seconds)


class _Program:
    """A jitted function whose first call with a shape, which compiles it, is timed apart."""

    def __init__(self, function: Callable, clock: Stopwatch):
        self._function, self._clock, self._seen = function, clock, set()

    def __call__(self, state: TrainState, batch: dict[str, np.ndarray], *frozen) -> Any:
        shapes = tuple(value.shape for value in batch.values())
        if shapes in self._seen:
            return self._function(state, batch, *frozen)
        self._seen.add(shapes)
        with self._clock.phase("compile"):
            return jax.block_until_ready(self._function(state, batch, *frozen))


def _limit(in_flight: deque, metrics: dict[str, jax.Array]) -> None:
    """Waits for the step before the last few, so that the host does not run far ahead."""
    in_flight.append(metrics)
    if len(in_flight) > STEPS_IN_FLIGHT:
        jax.block_until_ready(in_flight.popleft())


def _finite(metrics: dict[str, jax.Array], label: str, step: int) -> dict[str, float]:
    """The metrics as numbers. Raises ValueError when the loss or the gradient is not finite."""
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
        raise ValueError(
            f"{label}: at step {step} the loss is {values['loss']} and the gradient norm "
            f"{values['gradient_norm']}, expected finite numbers; train with a lower learning "
            "rate in another working directory (the checkpoints before this step are kept)."
        )
    return values


def _validate(
    evaluate: Callable, state: TrainState, batches: Iterable, frozen: tuple
) -> dict[str, float]:
    """Means over all images of the evaluation's metrics, named `validation_...`."""
    rows, sizes = [], []
    for batch in batches:
        rows.append(jax.device_get(evaluate(state, batch, *frozen)))
        sizes.append(len(batch["label"]))
    if not rows:
        raise ValueError("validation: got no images, expected at least one; check data's splits.")
    return {
        f"validation_{name}": float(np.average([row[name] for row in rows], weights=sizes))
        for name in rows[0]
    }
