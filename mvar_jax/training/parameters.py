"""Parameters without their training run: loaded for sampling, or saved from other sources."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
from absl import logging
from orbax.checkpoint import v1 as ocp

from mvar_jax.array_types import Params
from mvar_jax.training.saving import uncompressed
from mvar_jax.training.seal import sealed_parts, write_seal
from mvar_jax.training.stored import (
    DamagedError,
    all_damaged,
    check_sealed,
    check_whole,
    load_stored,
)
from mvar_jax.workdir import stored_steps

GROUP_BYTES = 1 << 25  # bytes of arrays that `save_params` writes together
CHUNK_BYTES = 1 << 22  # bytes of an array that are written together
FILE_BYTES = 1 << 23  # bytes of a file: several are in memory while a slow disk takes them


def load_params(directory: Path, expected: Params, *, verify: bool = False) -> Params:
    """The parameters to sample with, from the newest checkpoint: the average if there is one.

    `expected` is a tree of shapes and dtypes, such as `jax.eval_shape` of `init`. A damaged
    checkpoint is skipped, with a warning, in favour of the previous one. Raises ValueError if there
    is no checkpoint, all are damaged, its parameters have other shapes or, with `verify`, it has no
    seal.
    """
    damaged = []
    for step in stored_steps(directory):
        path = directory.absolute() / str(step)
        kept = "average" in sealed_parts(path) or (path / "average").is_dir()
        kind = "average" if kept else "params"
        if verify:
            check_sealed(path)
        try:
            check_whole(path, (kind,))
            loaded = load_stored(path, {kind: expected})
        except DamagedError as error:
            damaged.append(error)
            continue
        for skipped in damaged:
            logging.warning("%s is damaged (%s): taking step %d.", skipped.path, skipped.what, step)
        return loaded[kind]
    if damaged:
        raise all_damaged(directory, damaged)
    raise ValueError(
        f"{directory}: no checkpoint found, expected one from training; train first, or name "
        "the working directory of a trained model."
    )


def save_params(directory: Path, arrays: Iterable[tuple[tuple[str, ...], np.ndarray]]) -> None:
    """Saves parameters that were not trained here, as the checkpoint of step 0.

    `arrays` are the leaves with their paths, which must not change. They are written a few at a
    time, so that memory holds the largest of them once, not all. For a single process.
    """
    path = directory.absolute() / "0"
    pieces = path.with_name("0.pieces")
    with _saving_without_copies():
        for tree in _groups(arrays):
            ocp.partial.save(pieces, tree)
            tree.clear()  # before the next ones are created
        ocp.partial.finalize(pieces)
        # Partial saves know one name only, "state": its arrays are moved to a checkpoint like ours.
        ocp.save_checkpointables(path, {"params": {"none": np.zeros(1, np.float32)}})
    shutil.rmtree(path / "params")
    (pieces / "state").rename(path / "params")
    shutil.rmtree(pieces)
    write_seal(path)


def save_placed(directory: Path, params: Params) -> None:
    """Saves parameters that are sharded over all processes, as step 0; all processes call it."""
    path = directory.absolute() / "0"
    with uncompressed():
        ocp.save_checkpointables(path, {"params": params})
    if jax.process_index() == 0:
        write_seal(path)


def _saving_without_copies() -> ocp.Context:
    """Settings of Orbax under which saving takes little memory besides what is saved."""
    context = uncompressed()
    context.memory.deepcopy_host_arrays = False  # only needed where arrays change meanwhile
    context.array.saving.use_zarr3 = False  # it copies all chunks before it writes one
    context.array.saving.storage_options.chunk_byte_size = CHUNK_BYTES
    context.array.saving.ocdbt_target_data_file_size = FILE_BYTES
    return context


def _groups(arrays: Iterable[tuple[tuple[str, ...], np.ndarray]]) -> Iterator[dict]:
    """Trees of arrays of at least `GROUP_BYTES` each, exceeded by less than one array."""
    tree: Params = {}
    size = 0
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
