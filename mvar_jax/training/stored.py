"""One stored checkpoint: checks of its files and shapes, and loading it."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from absl import logging
from orbax.checkpoint import v1 as ocp

from mvar_jax.array_types import PyTree, path_name
from mvar_jax.checks import check, first_line
from mvar_jax.training.placement import placement
from mvar_jax.training.seal import SEAL, find_damage
from mvar_jax.workdir import WEIGHTS, Workdir, stored_steps

# What a training goes on with, besides the parameters, and what to say where it is missing.
PARTS_OF_A_RUN = {"optimizer": "no optimizer", "data": "no data position"}


class DamagedError(ValueError):
    """A checkpoint whose files are not those that were written."""

    def __init__(self, path: Path, what: str):
        super().__init__(
            f"{path}: this checkpoint is damaged ({what}); restore a good copy, or move that "
            "directory away to continue without it."
        )
        self.path, self.what = path, what


def check_is_run(directory: Path) -> None:
    """Raises ValueError where checkpoints hold parameters alone, as imported or shared ones do."""
    check(
        not Workdir(directory.parent).is_shared,
        f"{directory.parent}: holds a shared model (parameters alone, in {WEIGHTS}), expected a "
        "training to go on with; use another --workdir (python -m mvar_jax.train takes them by "
        "--init).",
    )
    paths = [directory / str(step) for step in stored_steps(directory)]
    if not paths or not any((paths[0] / part).is_dir() for part in ("params", "average")):
        return
    missing = [words for part, words in PARTS_OF_A_RUN.items() if not (paths[0] / part).is_dir()]
    check(
        any((path / "optimizer").is_dir() for path in paths),
        f"{directory}: holds parameters alone ({', '.join(missing)}), as imported and shared "
        "models do, expected a training to go on with; use another --workdir (python -m "
        "mvar_jax.train takes them by --init).",
    )


def check_sealed(path: Path) -> None:
    """Raises ValueError for a checkpoint whose files cannot be compared with those written."""
    check(
        (path / SEAL).is_file(),
        f"{path}: holds no {SEAL}, expected one to verify its files by; get the whole checkpoint "
        "again, or leave --verify out.",
    )


def check_whole(path: Path, parts: tuple[str, ...]) -> None:
    """Raises DamagedError unless the files of `parts` are those that were sealed."""
    damage = find_damage(path, parts)
    if damage is not None:
        raise DamagedError(path, damage)


def load_stored(
    path: Path, expected: dict[str, PyTree], others: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Loads named trees of a checkpoint, and restores the iterators `others` to their saved states.

    Leaves of `expected` give shapes, dtypes and, if they are arrays, their devices. Warns if there
    is no seal to compare files with. Raises DamagedError for a checkpoint that was never sealed and
    cannot be read, and ValueError if its arrays have other shapes or a sealed one cannot be read.
    """
    for name, tree in expected.items():
        _check_shapes(path, name, tree)
    abstract = {name: jax.tree.map(_abstract, tree) for name, tree in expected.items()}
    try:
        loaded = ocp.load_checkpointables(path, {**abstract, **(others or {})})
    except Exception as error:  # Orbax raises many kinds, down to bare Exception
        raise _unreadable(path, storage_error(error)) from None
    if not (path / SEAL).is_file() and jax.process_index() == 0:
        logging.warning("%s holds no %s: its files were loaded unverified.", path, SEAL)
    return loaded


def all_damaged(directory: Path, damaged: list[DamagedError]) -> ValueError:
    """The error for a run whose checkpoints are all damaged."""
    named = ", ".join(f"{error.path.name} ({error.what})" for error in damaged)
    named = named or "the first process names them"
    return ValueError(
        f"{directory}: all checkpoints are damaged: {named}; restore a good copy of one, or move "
        "them away to start from scratch."
    )


def storage_error(error: Exception) -> str:
    """The message of an Orbax error, as part of a sentence."""
    code = re.search(r"os_error_code='(\d+)'", str(error))  # of TensorStore, inside a long text
    return os.strerror(int(code[1])) if code else first_line(error)[:200]


def _check_shapes(path: Path, name: str, expected: PyTree) -> None:
    """Raises ValueError unless the stored tree has the expected paths and shapes."""
    if name == "average" and (path / "params").is_dir() and not (path / name).is_dir():
        raise ValueError(
            f"{path}: holds no average of the parameters, expected one for training.ema_decay; "
            "set it to 0, or use another working directory."
        )
    try:
        stored = _shapes(ocp.metadata(path, checkpointable_name=name).metadata)
    except Exception as error:
        raise _unreadable(path, storage_error(error)) from None
    if not stored:
        raise _unreadable(path, f"the index of {name} cannot be read")
    compare_shapes(path, name, stored, expected)


def compare_shapes(
    path: Path, name: str, stored: Mapping[str, tuple[int, ...]], expected: PyTree
) -> None:
    """Raises ValueError unless the shapes of stored arrays by name are those of the tree `name`."""
    wanted = _shapes(expected)
    for parameter in (*wanted, *stored):
        got, want = stored.get(parameter), wanted.get(parameter)
        check(
            got == want,
            f"{path}: {name}/{parameter} is stored as {_in_words(got)}, expected "
            f"{_in_words(want)}; use the configuration that it was trained with, or another "
            "working directory.",
        )


def _unreadable(path: Path, reason: str) -> ValueError:
    """DamagedError, unless a seal proves that the files are intact."""
    if not (path / SEAL).is_file():
        return DamagedError(path, reason)
    return ValueError(
        f"{path}: this checkpoint cannot be read ({reason}), although its files are intact; check "
        "the machine and the installation, and try again."
    )


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path): tuple(leaf.shape) for path, leaf in leaves}


def _in_words(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else f"an array of shape {shape}"


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape, dtype and sharding of a leaf to load."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement(leaf))
