"""The training loop, for the tokenizer and the trunk alike."""

from collections.abc import Callable, Iterable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mvar_jax.array_types import HostArray, batch_size
from mvar_jax.config import TrainingConfig
from mvar_jax.training.checkpoint import Checkpoints
from mvar_jax.training.guard import Guard, TooManySkippedError, check_finite
from mvar_jax.training.metrics import Row
from mvar_jax.training.placement import place
from mvar_jax.training.preemption import Preempted, Preemption
from mvar_jax.training.profiler import Profiler
from mvar_jax.training.progress import Progress
from mvar_jax.training.run_log import RunLog
from mvar_jax.training.state import TrainState
from mvar_jax.training.stopwatch import Stopwatch
from mvar_jax.training.throughput import StepCost, Throughput


@dataclass(frozen=True)
class Outcome:
    """A run's last state, the rows of its log from the first step on, and where its time went.

    `seconds` has the phases "restore", "compile", "train", "validate", "draw" and "save" of this
    call; phases that did not occur are absent. "compile" includes the first step.
    """

    state: TrainState
    history: list[Row]
    seconds: dict[str, float]


def fit(
    label: str,
    expected: TrainState,
    start: Callable[[], TrainState],
    train_step: Callable,
    evaluate: Callable,
    batches: Iterable,
    validation: Iterable,
    config: TrainingConfig,
    total_steps: int,
    directory: Path,
    cost: StepCost,
    frozen: tuple = (),
    begin: Callable[[], None] = lambda: None,
    draw: Callable | None = None,
) -> Outcome:
    """Trains until `total_steps` steps are made, going on from the newest whole checkpoint.

    `train_step(state, batch, *frozen) -> (state, metrics)` and `evaluate(state, batch, *frozen)
    -> metrics` are the jitted functions of `training.step`. `expected` gives the shapes, dtypes and
    devices of the state; where nothing was saved, `start` makes the one to start with, which is
    given up. `batches` is endless and has a place to save, as `GlobalBatches`; `validation` is
    finite. The run lives in `directory`: `checkpoints/` and what `RunLog` writes; `label` names it
    in messages. `begin` is called, by all processes, once it is certain that the run can go on,
    before anything of an earlier one changes. `draw(state, path, *frozen)` writes a picture of
    what was learned to `samples/STEP.png` and returns its pixels, uint8 [height, width, 3].

    A run that is ended at any time and started again gives the same rows and parameters as one
    that was not. Raises Preempted when SIGTERM asked it to stop, after saving. Raises ValueError
    when all checkpoints are damaged, the newest is of another configuration, there is no
    validation batch, or too many steps in a row were skipped; OSError when a checkpoint or a log
    cannot be written. What was saved before stays.
    """
    clock, batches = Stopwatch(), iter(batches)
    train_step, evaluate = _Program(train_step, clock), _Program(evaluate, clock)

    def due(step: int, *intervals: int) -> bool:
        return step == total_steps or any(every and step % every == 0 for every in intervals)

    with (
        closing(batches),  # which ends its worker processes, if any
        Preemption() as preemption,
        _checkpoints(directory, config) as checkpoints,
    ):
        with clock.phase("restore"):
            # Made only where it is needed: the memory holds no second state beside a saved one.
            state = checkpoints.restore(expected, batches)
            state = place(start()) if state is None else state
            check_finite(state)
        first = int(state.step)
        begin()
        throughput, guard = Throughput(cost, first, clock), Guard(config.max_skipped)
        with (
            RunLog(directory, first) as log,
            Progress(label, first, total_steps, clock) as progress,
            Profiler(config.profile, directory / "profile") as profiler,
            _naming_the_last_good(label, checkpoints),
            clock.phase("train"),
        ):
            for step in range(first + 1, total_steps + 1):
                state, metrics = profiler.run(step, train_step, state, next(batches), *frozen)
                guard.follow(step, metrics)
                progress.advance()
                if due(step, config.log_every, config.validate_every, config.save_every):
                    row, speed = {"step": step, **guard.numbers()}, throughput.row(step)
                    if due(step, config.validate_every):
                        with clock.phase("validate"):
                            chosen = islice(
                                validation, config.validation_batches * config.accumulate
                            )
                            row |= _validate(evaluate, state, chosen, frozen)
                    log.append(row, speed)
                    progress.report({**row, **speed})
                if draw and config.sample_every and due(step, config.sample_every):
                    with clock.phase("draw"):
                        log.picture(step, draw(state, _picture(directory, step), *frozen))
                stopping = preemption.reached(step)
                if due(step, config.save_every) or stopping:
                    with clock.phase("save"):
                        checkpoints.save(state, batches)
                if stopping:
                    checkpoints.wait()
                    progress.say(f"asked to stop, saved step {step} of {total_steps}")
                    raise Preempted
        with clock.phase("save"):
            checkpoints.wait()
    return Outcome(state, log.rows, clock.seconds)


def _checkpoints(directory: Path, config: TrainingConfig) -> Checkpoints:
    return Checkpoints(directory / "checkpoints", config.keep_checkpoints, config.keep_every)


def _picture(directory: Path, step: int) -> Path:
    return directory / "samples" / f"{step}.png"


class _Program:
    """A jitted function whose first call with a shape, which compiles it, is timed apart."""

    def __init__(self, function: Callable, clock: Stopwatch):
        self._function, self._clock, self._seen = function, clock, set()

    def __call__(self, state: TrainState, batch: dict[str, HostArray], *frozen) -> Any:
        shapes = tuple(value.shape for value in batch.values())
        if shapes in self._seen:
            return self._function(state, batch, *frozen)
        self._seen.add(shapes)
        with self._clock.phase("compile"):
            return jax.block_until_ready(self._function(state, batch, *frozen))


@contextmanager
def _naming_the_last_good(label: str, checkpoints: Checkpoints):
    """Says which checkpoint is the last one when too many steps were skipped."""
    try:
        yield
    except TooManySkippedError as error:
        checkpoints.wait()
        last = checkpoints.latest
        good = f"the last good checkpoint is {last}" if last else "no checkpoint was saved before"
        raise ValueError(
            f"{label}: {error}; {good}; train with a lower learning rate in another working "
            "directory, or set training.max_skipped higher to go on from there."
        ) from None


def _validate(
    evaluate: Callable, state: TrainState, batches: Iterable, frozen: tuple
) -> dict[str, float]:
    """Means over all images of the evaluation's metrics, named `validation_...`."""
    rows, sizes = [], []
    for batch in batches:
        rows.append(jax.device_get(evaluate(state, batch, *frozen)))
        sizes.append(batch_size(batch))
    if not rows:
        raise ValueError("validation: got no images, expected at least one; check data's splits.")
    return {
        f"validation_{name}": float(np.average([row[name] for row in rows], weights=sizes))
        for name in rows[0]
    }
