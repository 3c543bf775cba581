"""Checkpoints: the state of a run and its position in the data, saved while training continues.

A run's directory holds one subdirectory per saved step. In each, Orbax stores `params`, `average`
and `extra` (where there are some), `optimizer` and `data` separately, so that parameters load
without the optimizer. They hold arrays and JSON only: loading a checkpoint runs no code from it. A
damaged checkpoint is skipped in favour of the previous one, and renamed, never deleted.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from logging import LogRecord
from pathlib import Path

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from mvar_jax.array_types import PyTree
from mvar_jax.checks import check
from mvar_jax.files import BucketPath, check_manageable, move_folder
from mvar_jax.training.saving import uncompressed
from mvar_jax.training.seal import write_seal
from mvar_jax.training.state import TrainState
from mvar_jax.training.stored import (
    DamagedError,
    all_damaged,
    check_whole,
    load_stored,
    storage_error,
)
from mvar_jax.workdir import COMMITTED, stored_steps

NONE_LEFT, ALL_DAMAGED = -1, -2  # in place of a step


class Checkpoints:
    """The checkpoints of a run, in `directory/STEP`. Use it in a `with` block.

    The newest `keep` are kept, and all whose step is a multiple of `keep_every` (0: no others).
    `batches` are iterators with Orbax's `save` and `load` methods, such as those of
    `GlobalBatches`. All processes of a run make the same calls. Raises ValueError for a directory
    that is a file.
    """

    def __init__(self, directory: Path, keep: int, keep_every: int = 0):
        check(
            not directory.is_file(),
            f"{directory}: is a file, expected the folder of checkpoints; move it away.",
        )
        if isinstance(directory, BucketPath):
            check_manageable(directory)
        self.directory = directory.absolute()
        policies = ocp.training.preservation_policies
        kept = [policies.LatestN(keep)]
        if keep_every:
            kept.append(policies.EveryNSteps(keep_every))
        self._checkpointer = ocp.training.Checkpointer(
            self.directory,
            context=uncompressed(),
            preservation_policy=policies.AnyPreservationPolicy(kept),
            cleanup_tmp_directories=True,
        )
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._pending: Future | None = None

    def __enter__(self) -> "Checkpoints":
        logging.get_absl_logger().addFilter(_is_not_orbax_failing)
        return self

    def __exit__(self, *_) -> None:
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            with suppress(Exception):  # of a failed save, which `wait` has raised already
                self._checkpointer.close()
            logging.get_absl_logger().removeFilter(_is_not_orbax_failing)

    @property
    def latest(self) -> Path | None:
        """The newest checkpoint, None if there is none."""
        steps = stored_steps(self.directory)
        return self.directory / str(steps[0]) if steps else None

    def save(self, state: TrainState, batches: Iterator) -> None:
        """Starts to save, and returns once the state may change; waits for the previous save.

        Raises OSError, in one sentence, if this save or the previous one cannot be written;
        earlier checkpoints are not changed.
        """
        self.wait()
        path = self.directory / str(int(state.step))
        with self._naming_failures(path):
            writing = self._checkpointer.save_checkpointables_async(
                int(path.name), {**_trees(state), "data": batches}, force=True
            )
            self._pending = self._thread.submit(self._seal_when_written, writing.result, path)

    def wait(self) -> None:
        """Waits until no save is in progress; raises the error of a failed one."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def restore(self, state: TrainState, batches: Iterator) -> TrainState | None:
        """The newest intact state; sets `batches` to its position in the data.

        None if nothing was saved. `state` gives shapes, dtypes and, if its leaves are arrays,
        their devices. Damaged checkpoints that are newer than the restored one are renamed to
        `STEP.damaged`, and a warning names them. Raises ValueError if all are damaged, and if the
        newest intact one belongs to another configuration.
        """
        damaged: list[DamagedError] = []
        for path in self._whole(tuple(_trees(state)), damaged):
            try:
                restored = _load(path, state, batches)
            except DamagedError as error:
                if jax.process_count() > 1:  # the others may have loaded it
                    raise
                damaged.append(error)
                continue
            self._set_aside(path, damaged)
            return restored
        return None

    def _whole(self, parts: tuple[str, ...], damaged: list[DamagedError]) -> Iterator[Path]:
        """The checkpoints whose files are as written, newest first; the others go to `damaged`.

        Process 0 checks them for all processes. Raises ValueError if all are damaged.
        """
        own = iter(stored_steps(self.directory)) if jax.process_index() == 0 else iter(())
        while True:
            step = _next_whole(self.directory, own, (*parts, "data"), damaged=damaged)
            step = int(multihost_utils.broadcast_one_to_all(np.int32(step)))
            if step == ALL_DAMAGED:
                raise all_damaged(self.directory, damaged)
            if step == NONE_LEFT:
                return
            yield self.directory / str(step)

    def _set_aside(self, restored: Path, damaged: list[DamagedError]) -> None:
        for error in damaged:
            aside = _free_name(error.path)
            move_folder(error.path, aside, COMMITTED)
            logging.warning(
                "%s is damaged (%s): resuming from %s; it is kept as %s.",
                error.path,
                error.what,
                restored.name,
                aside.name,
            )
        multihost_utils.sync_global_devices("damaged checkpoints are set aside")
        self._checkpointer.reload()

    def _seal_when_written(self, wait: Callable, path: Path) -> None:
        with self._naming_failures(path):
            wait()
            if jax.process_index() == 0:
                write_seal(path)

    @contextmanager
    def _naming_failures(self, path: Path) -> Iterator[None]:
        """Turns the error of a failed save into an OSError of one sentence."""
        try:
            yield
        except Exception as error:  # Orbax raises many kinds, a full disk as ValueError too
            before = [step for step in stored_steps(self.directory) if step < int(path.name)]
            last = f"step {before[0]} is the last one" if before else "there is none before it"
            raise OSError(
                f"{path}: this checkpoint could not be saved ({storage_error(error)}); {last}, "
                "free some space, and run the same command again to resume"
            ) from error


def _is_not_orbax_failing(record: LogRecord) -> bool:
    """False for tracebacks that Orbax logs in its threads, of errors that it also raises."""
    return not (record.exc_info and "orbax" in Path(record.pathname).parts)


def _trees(state: TrainState) -> dict[str, PyTree]:
    """The parts of a state that are saved, each under its own name."""
    counts = {"step": state.step, "skipped": state.skipped}
    trees = {"params": state.params, "optimizer": {**counts, "state": state.opt_state}}
    more = {"average": state.average, "extra": state.extra}
    return {**trees, **{name: tree for name, tree in more.items() if tree is not None}}


def _load(path: Path, state: TrainState, batches: Iterator) -> TrainState:
    loaded = load_stored(path, _trees(state), {"data": batches})
    optimizer = loaded["optimizer"]
    return TrainState(
        step=optimizer["step"],
        params=loaded["params"],
        opt_state=optimizer["state"],
        average=loaded.get("average"),
        skipped=optimizer["skipped"],
        extra=loaded.get("extra"),
    )


def _next_whole(
    directory: Path, steps: Iterator[int], parts: tuple[str, ...], *, damaged: list[DamagedError]
) -> int:
    """The next step whose checkpoint is intact, or the reason why there is none."""
    for step in steps:
        try:
            check_whole(directory / str(step), parts)
        except DamagedError as error:
            damaged.append(error)
        else:
            return step
    return ALL_DAMAGED if damaged else NONE_LEFT


def _free_name(path: Path) -> Path:
    """`STEP.damaged`, with a number if that name is taken."""
    aside, count = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.damaged.{count}")
    return aside
