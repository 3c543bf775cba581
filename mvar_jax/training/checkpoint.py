"""Checkpoints: the state of a run and its place in the data, saved while training goes on.

A run's directory holds one subdirectory per saved step. In each, Orbax keeps `params`, `average`
(where one is kept), `optimizer` and `data` apart, so that parameters load without the optimizer.
They hold arrays and JSON only: loading a checkpoint runs no code from it.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from mvar_jax.training.seal import find_damage, write_seal
from mvar_jax.training.state import TrainState, placement
from mvar_jax.typing import Params, PyTree

GROUP_BYTES = 1 << 25  # of arrays that are written together, without training
CHUNK_BYTES = 1 << 24  # of an array that are compressed together


class Checkpoints:
    """The newest `keep` checkpoints of a run, in `directory/STEP`. Use it in a `with` block.

    `batches` are Grain iterators, or others with Orbax's `save` and `load` methods.
    """

    def __init__(self, directory: Path, keep: int):
        self.directory = directory.absolute()
        self._checkpointer = ocp.training.Checkpointer(
            self.directory,
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._pending: Future | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._checkpointer.close()

    def save(self, state: TrainState, batches: Iterator) -> None:
        """Starts to save, and returns once the state may change; waits for an earlier save."""
        self.wait()
        step = int(state.step)
        writing = self._checkpointer.save_checkpointables_async(
            step, {**_trees(state), "data": batches}, force=True
        )
        self._pending = self._thread.submit(
            _seal_when_written, writing.result, self.directory / str(step)
        )

    def wait(self) -> None:
        """Returns when no save is in progress; raises what a failed one raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def restore(self, state: TrainState, batches: Iterator) -> TrainState | None:
        """The newest saved state, None where there is none; moves `batches` to its place.

        `state` gives shapes, dtypes and, where its leaves are arrays, their devices. Raises
        ValueError when the newest checkpoint is damaged or belongs to another configuration.
        """
        step = latest_step(self.directory)
        if step is None:
            return None
        loaded = _load(self.directory / str(step), _trees(state), {"data": batches})
        return TrainState(
            step=loaded["optimizer"]["step"],
            params=loaded["params"],
            opt_state=loaded["optimizer"]["state"],
            average=loaded.get("average"),
        )


def latest_step(directory: Path) -> int | None:
    """The newest step saved in a run's directory, finished or damaged; None where there is none."""
    steps = [int(path.name) for path in directory.glob("*") if path.name.isdigit()]
    return max(steps, default=None)


def load_params(directory: Path, expected: Params) -> Params:
    """The parameters to sample with, from the newest checkpoint: the average where one is kept.

    `expected` gives the tree of shapes and dtypes (`jax.eval_shape` of `init` will do). Raises
    ValueError when there is no checkpoint, it is damaged, or its parameters have other shapes.
    """
    step = latest_step(directory)
    if step is None:
        raise ValueError(
            f"{directory}: no checkpoint found, expected one from training; train first, or name "
            "the working directory of a trained model."
        )
    path = directory.absolute() / str(step)
    kind = "average" if (path / "average").is_dir() else "params"
    return _load(path, {kind: expected}, {})[kind]


def save_params(directory: Path, arrays: Iterable[tuple[tuple[str, ...], np.ndarray]]) -> None:
    """Saves parameters that were not trained here, as the checkpoint of step 0.

    `arrays` are the leaves with their paths. They are written as they come, a few at a time:
    memory holds the largest of them, not all.
    """
    path = directory.absolute() / "0"
    pieces = path.with_name("0.pieces")
    context = ocp.Context()
    context.array.saving.storage_options.chunk_byte_size = CHUNK_BYTES
    with context:
        for tree in _groups(arrays):
            ocp.partial.save(pieces, tree)
            tree.clear()  # before the next ones are made
        ocp.partial.finalize(pieces)
    # Saving in pieces knows one name only, "state": its arrays move into a checkpoint like ours.
    ocp.save_checkpointables(path, {"params": {"none": np.zeros(1, np.float32)}})
    shutil.rmtree(path / "params")
    (pieces / "state").rename(path / "params")
    shutil.rmtree(pieces)
    write_seal(path)


def _groups(arrays: Iterable[tuple[tuple[str, ...], np.ndarray]]) -> Iterator[dict]:
    """Trees of arrays that take `GROUP_BYTES` each, or as much more as one array has."""
    tree, size = {}, 0
    for leaf in arrays:
        size += _put(tree, *leaf)
        del leaf
        if size >= GROUP_BYTES:
            yield tree
            tree, size = {}, 0
    if tree:
        yield tree


def _put(tree: dict, path: tuple[str, ...], array: np.ndarray) -> int:
    """Puts an array into a tree of dicts; returns its bytes."""
    *folders, name = path
    for folder in folders:
        tree = tree.setdefault(folder, {})
    tree[name] = array
    return array.nbytes


def _trees(state: TrainState) -> dict[str, PyTree]:
    """The parts of a state that are saved, each under its own name."""
    trees = {
        "params": state.params,
        "optimizer": {"step": state.step, "state": state.opt_state},
    }
    return trees if state.average is None else {**trees, "average": state.average}


def _seal_when_written(wait: Callable, path: Path) -> None:
    wait()
    write_seal(path)


def _load(path: Path, expected: dict[str, PyTree], others: dict[str, Any]) -> dict[str, Any]:
    """Loads the named trees and other parts of a checkpoint, after looking for damage."""
    damage = find_damage(path, (*expected, *others))
    if damage is not None:
        raise _damaged(path, damage)
    for name, tree in expected.items():
        _check_shapes(path, name, tree)
    abstract = {name: jax.tree.map(_abstract, tree) for name, tree in expected.items()}
    try:
        return ocp.load_checkpointables(path, {**abstract, **others})
    except Exception as error:  # Orbax raises many kinds, down to bare Exception
        raise _damaged(path, _first_line(error)) from None


def _check_shapes(path: Path, name: str, expected: PyTree) -> None:
    """Raises ValueError unless the stored tree has the expected paths and shapes."""
    if name == "average" and not (path / name).is_dir():
        raise ValueError(
            f"{path}: holds no average of the parameters, expected one for training.ema_decay; "
            "set it to 0, or use another working directory."
        )
    try:
        stored = _shapes(ocp.metadata(path, checkpointable_name=name).metadata)
    except Exception as error:
        raise _damaged(path, _first_line(error)) from None
    if not stored:
        raise _damaged(path, f"the index of {name} cannot be read")
    wanted = _shapes(expected)
    for parameter in (*wanted, *stored):
        got, want = stored.get(parameter), wanted.get(parameter)
        if got != want:
            raise ValueError(
                f"{path}: {name}/{parameter} is stored as {_in_words(got)}, expected "
                f"{_in_words(want)}; use the configuration that it was trained with, or another "
                "working directory."
            )


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
    }


def _in_words(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else f"an array of shape {shape}"


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape, dtype and devices to load to."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement(leaf))


def _damaged(path: Path, what: str) -> ValueError:
    return ValueError(
        f"{path}: this checkpoint is damaged ({what}); delete that directory to go on from the "
        "checkpoint before it, or put back a good copy."
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
