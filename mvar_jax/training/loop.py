"""The training loop, for the tokenizer and the trunk alike."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from mvar_jax.array_types import batch_size
from mvar_jax.checks import first_line, is_out_of_device_memory
from mvar_jax.config import TrainingConfig
from mvar_jax.training.checkpoint import Checkpoints
from mvar_jax.training.guard import Guard, TooManySkippedError, check_finite
from mvar_jax.training.lock import RunLock
from mvar_jax.training.losses import Metrics
from mvar_jax.training.metrics import Row
from mvar_jax.training.placement import place
from mvar_jax.training.preemption import Preempted, Preemption
from mvar_jax.training.profiler import Profiler
from mvar_jax.training.progress import Progress
from mvar_jax.training.run_log import RunLog
from mvar_jax.training.state import TrainState
from mvar_jax.training.stopwatch import Stopwatch
from mvar_jax.training.throughput import StepCost, Throughput
from mvar_jax.training.weights_and_biases import check_installed

Batch = dict[str, jax.Array]


@dataclass(frozen=True)
class Run:
    """The name, directory, settings and length of a run."""

    label: str  # in messages
    directory: Path  # of `checkpoints/`, `samples/`, `profile/` and what `RunLog` writes
    config: TrainingConfig
    total_steps: int
    cost: StepCost
    # Sentences to say about the rows that are logged, which it is given one after the other.
    watch: Callable[[Row], list[str]] = lambda _: []

    def due(self, step: int, *intervals: int) -> bool:
        """Whether a step is the last one, or a multiple of one of the intervals (0: never)."""
        last = step == self.total_steps
        return last or any(every and step % every == 0 for every in intervals)


Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


@dataclass(frozen=True)
class Programs:
    """The jitted functions of a run. Inputs that never change (`Frozen`) are bound beforehand."""

    step: Step  # donates the state
    evaluate: Callable[[TrainState, Batch], Metrics]
    # Writes a picture of samples to a path; returns its pixels, uint8 [height, width, 3].
    draw: Callable[[TrainState, Path], np.ndarray] | None = None
    # From a step on, counted from 0, another one takes the place of the one before.
    later: tuple[tuple[int, Step], ...] = ()

    def step_at(self, step: int) -> Step:
        """That of step number `step`, counted from 0."""
        return [self.step, *(program for start, program in self.later if step >= start)][-1]


@runtime_checkable
class BatchIterator(Protocol):
    """Iterates over batches, with a position that Orbax saves in checkpoints and restores."""

    def __iter__(self) -> Iterator[Batch]:
        """Itself."""

    def __next__(self) -> Batch:
        """The next batch."""

    def close(self) -> None:
        """Stops the threads and processes that read."""


@runtime_checkable
class Batches(Protocol):
    """Training data, such as `GlobalBatches`."""

    def __iter__(self) -> BatchIterator:
        """Iterates from the first batch."""


@dataclass(frozen=True)
class Data:
    """Batches of arrays on the devices."""

    batches: Batches  # endless
    validation: Iterable[Batch]  # finite


@dataclass(frozen=True)
class InitialState:
    """The state before the first update: its shapes, and a function that creates it."""

    shapes: TrainState  # shapes, dtypes and shardings, or arrays that have them
    create: Callable[[], TrainState]  # called if nothing was saved; `fit` donates its result


@dataclass(frozen=True)
class Outcome:
    """A run's final state, all rows of its log, and its time per phase.

    `seconds` has the phases "restore", "compile", "train", "validate", "draw" and "save" of this
    call; phases that did not occur are absent. "compile" includes the first step.
    """

    state: TrainState
    history: list[Row]
    seconds: dict[str, float]


def fit(
    run: Run,
    programs: Programs,
    data: Data,
    *,
    initial: InitialState,
    begin: Callable[[], object] = lambda: None,
) -> Outcome:
    """Trains up to step `run.total_steps`, from the newest intact checkpoint if there is one.

    run: name, directory, settings and length.
    programs: the jitted step and evaluation, and perhaps a function that writes pictures to
        `samples/STEP.png`.
    data: training and validation batches.
    initial: the state to start from if there is no checkpoint.
    begin: called by all processes once the state is restored and steps are left, before any file of
        an earlier run changes.

    A run that is interrupted at any time and resumed gives the same rows and parameters as one that
    was not. Raises Preempted after SIGTERM, when the state is saved. Raises ValueError if all
    checkpoints are damaged, the newest is of another configuration, there is no validation batch,
    a device has too little memory, too many steps in a row were skipped, another run trains there,
    or Weights & Biases cannot show the run as the config asks; OSError if a checkpoint or a log
    cannot be written. Earlier checkpoints are kept.
    """
    check_installed(run.config.wandb)
    clock, batches = Stopwatch(), iter(data.batches)
    with (
        closing(batches),  # which ends its worker processes, if any
        Preemption() as preemption,
        RunLock(run.directory) as lock,
        _checkpoints(run) as checkpoints,
    ):
        with clock.phase("restore"):
            # Created only if needed, so that memory never holds two states.
            state = checkpoints.restore(initial.shapes, batches)
            state = place(initial.create()) if state is None else state
            check_finite(state)
        first = int(state.step)
        if first < run.total_steps:
            begin()
        with (
            RunLog(run.directory, first, run.config.wandb, ended=first >= run.total_steps) as log,
            Progress(run.label, first, run.total_steps, clock=clock) as progress,
            Profiler(run.config.profile, run.directory / "profile") as profiler,
            _naming_the_last_good(run.label, checkpoints),
            _naming_memory(run.label),
            clock.phase("train"),
        ):
            for row in log.rows:  # what it said about them was said then
                run.watch(row)
            throughput = Throughput(run.cost, first, clock)
            steps = _Steps(
                run=run,
                programs=_timed(programs, clock, throughput),
                validation=data.validation,
                clock=clock,
                log=log,
                progress=progress,
                profiler=profiler,
                guard=Guard(run.config.max_skipped),
                throughput=throughput,
            )
            for step in range(first + 1, run.total_steps + 1):
                state = steps.take(step, state, batches)
                stopping = preemption.reached(step)
                if stopping or run.due(step, run.config.save_every):
                    lock.check_held()
                    with clock.phase("save"):
                        checkpoints.save(state, batches)
                if stopping:
                    checkpoints.wait()
                    progress.say(f"asked to stop, saved step {step} of {run.total_steps}")
                    raise Preempted
        with clock.phase("save"):
            checkpoints.wait()
    return Outcome(state, log.rows, clock.seconds)


@dataclass(frozen=True)
class _Steps:
    """Takes the steps of a run, and reports them."""

    run: Run
    programs: Programs
    validation: Iterable[Batch]
    clock: Stopwatch
    log: RunLog
    progress: Progress
    profiler: Profiler
    guard: Guard
    throughput: Throughput

    def take(self, step: int, state: TrainState, batches: Iterator[Batch]) -> TrainState:
        """The state after step number `step`, counted from 1, on the next batch."""
        config = self.run.config
        state = self._update(step, state, next(batches))
        self.progress.advance()
        if self.run.due(step, config.log_every, config.validate_every, config.save_every):
            self._report(step, state)
        if self.programs.draw and config.sample_every and self.run.due(step, config.sample_every):
            with self.clock.phase("draw"):
                path = self.run.directory / "samples" / f"{step}.png"
                self.log.picture(step, self.programs.draw(state, path))
        return state

    def _update(self, step: int, state: TrainState, batch: Batch) -> TrainState:
        # An implicit transfer, of a number or of an array on another device, would silently slow
        # down every step. Reading a batch is not guarded: with several processes JAX counts its
        # transfer to the devices as implicit. Logs, pictures and checkpoints may transfer.
        with jax.transfer_guard("disallow"):
            state, metrics = self.profiler.run(step, self.programs.step_at(step - 1), state, batch)
            self.guard.follow(step, metrics)
        return state

    def _report(self, step: int, state: TrainState) -> None:
        row, speed = {"step": step, **self.guard.numbers()}, self.throughput.row(step)
        if self.run.due(step, self.run.config.validate_every):
            with self.clock.phase("validate"):
                row |= self._validate(state)
        self.log.append(row, speed)
        self.progress.report({**row, **speed})
        for sentence in self.run.watch(row):
            self.progress.say(sentence)

    def _validate(self, state: TrainState) -> dict[str, float]:
        """The metrics of the evaluation, means over all images, named `validation_...`."""
        config, rows, sizes = self.run.config, [], []
        for batch in islice(self.validation, config.validation_batches * config.accumulate):
            rows.append(jax.device_get(self.programs.evaluate(state, batch)))
            sizes.append(batch_size(batch))
        if not rows:
            raise ValueError(
                "validation: got no images, expected at least one; check data's splits."
            )
        return {
            f"validation_{name}": float(np.average([row[name] for row in rows], weights=sizes))
            for name in rows[0]
        }


def _timed(programs: Programs, clock: Stopwatch, throughput: Throughput) -> Programs:
    timed = partial(_Program, clock=clock, compiles=throughput.leave_out)
    later = tuple((start, timed(program)) for start, program in programs.later)
    evaluate = _Program(programs.evaluate, clock)
    return replace(programs, step=timed(programs.step), evaluate=evaluate, later=later)


class _Program:
    """A jitted function that times its first call with a shape, which compiles, as "compile".

    `compiles` is called then.
    """

    def __init__(
        self, function: Callable, clock: Stopwatch, compiles: Callable[[], None] = lambda: None
    ):
        self._function, self.clock, self._compiles = function, clock, compiles
        self._seen: set[tuple[tuple[int, ...], ...]] = set()

    def __call__(self, state: TrainState, batch: Batch) -> Any:
        shapes = tuple(value.shape for value in batch.values())
        if shapes in self._seen:
            return self._function(state, batch)
        self._seen.add(shapes)
        jax.block_until_ready(state)  # earlier steps, which still run, are not compilation
        self._compiles()
        # Constants that tracing creates are transferred implicitly.
        with self.clock.phase("compile"), jax.transfer_guard("allow"):
            return jax.block_until_ready(self._function(state, batch))


def _checkpoints(run: Run) -> Checkpoints:
    config = run.config
    return Checkpoints(run.directory / "checkpoints", config.keep_checkpoints, config.keep_every)


@contextmanager
def _naming_memory(label: str):
    """Says what to change when a device has not enough memory for a step."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_device_memory(error):
            raise
        raise ValueError(
            f"{label}: a device has not enough memory ({first_line(error)}); compute more again "
            "(model.remat=products, or full), take a batch in parts (accumulate=2 or more in its "
            "training settings), or split images and parameters over more devices (mesh.fsdp)."
        ) from None


@contextmanager
def _naming_the_last_good(label: str, checkpoints: Checkpoints):
    """Adds the last good checkpoint to the error that too many steps were skipped."""
    try:
        yield
    except TooManySkippedError as error:
        checkpoints.wait()
        last = checkpoints.latest
        good = f"the last good checkpoint is {last}" if last else "no checkpoint was saved before"
        raise ValueError(
            f"{label}: {error}; {good}; train with a lower learning rate in another working "
            "directory, or set training.max_skipped higher to resume from there."
        ) from None
