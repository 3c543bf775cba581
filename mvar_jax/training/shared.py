"""Parameters in a file of safetensors, as models are shared: plain arrays that run no code.

Each array has its path in the tree as its name. The header says the checksum (`models.checksum`)
of all of them, by which damage is detected.
"""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from absl import logging

from mvar_jax.array_types import Array, Leaf, Params, path_name
from mvar_jax.checks import check
from mvar_jax.files import local_copy
from mvar_jax.models.checksum import checksum
from mvar_jax.tensor_files.safetensors import (
    About,
    file_bytes,
    read_metadata,
    read_safetensors,
    write_safetensors,
)
from mvar_jax.tensor_files.stored_tensor import FLOATS, StoredTensor
from mvar_jax.training.placement import placement
from mvar_jax.training.stored import compare_shapes

CHECKSUM = "checksum"  # in the header


def save_shared(file: Path, params: Params) -> None:
    """Writes parameters, in their own dtypes, with their checksum."""
    leaves = _leaves(params)
    write_safetensors(file, _about(params), leaves.items(), {CHECKSUM: checksum(params)})


def shared_bytes(params: Params) -> int:
    """The size of the file that `save_shared` writes."""
    return file_bytes(_about(params), {CHECKSUM: checksum(params)})


def load_shared(file: Path, expected: Params, *, verify: bool = False) -> Params:
    """The parameters of a shared model, in the dtypes and shardings of `expected`.

    `expected` is a tree of shapes, as for `load_params`. Raises ValueError for a file that is
    damaged, holds arrays of other names or shapes, or anything but floating point numbers, and,
    with `verify`, for one without a checksum, which is otherwise warned of.
    """
    file = local_copy(file)
    try:
        tensors, said = read_safetensors(file), read_metadata(file).get(CHECKSUM)
    except ValueError as error:
        raise _damaged(file, str(error)) from None
    compare_shapes(file, "params", {name: each.shape for name, each in tensors.items()}, expected)
    for name, tensor in tensors.items():
        check(
            tensor.dtype in FLOATS,
            f"{file}: {name} has dtype {tensor.dtype}, expected float32, float16 or bfloat16; get "
            "the file that was shared.",
        )
    _check_checksum(file, said, tensors, expected, verify=verify)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: _placed(tensors[path_name(path)], leaf), expected
    )


def _check_checksum(
    file: Path,
    said: object,
    tensors: Mapping[str, StoredTensor],
    expected: Params,
    *,
    verify: bool,
) -> None:
    if said is None:
        check(
            not verify,
            f"{file}: its header holds no checksum, expected one to verify the arrays by; get the "
            "file that was shared, or leave --verify out.",
        )
        logging.warning("%s holds no checksum: its arrays were loaded unverified.", file)
        return
    mapped = jax.tree_util.tree_map_with_path(
        lambda path, _: np.asarray(tensors[path_name(path)]), expected
    )
    if checksum(mapped) != said:
        raise _damaged(file, "its arrays are not those that its checksum is of")


def _damaged(file: Path, what: str) -> ValueError:
    return ValueError(f"{file}: this file of weights is damaged ({what}); get a good copy.")


def _placed(tensor: StoredTensor, leaf: Leaf) -> Array:
    """One array on its devices, of which each gets a copy of its own part of the file."""
    mapped = np.asarray(tensor)
    return jax.make_array_from_callback(
        leaf.shape, placement(leaf), lambda part: np.array(mapped[part], leaf.dtype)
    )


def _leaves(params: Params) -> dict[str, np.ndarray]:
    found = jax.tree_util.tree_leaves_with_path(params)
    return {path_name(path): np.asarray(leaf) for path, leaf in found}


def _about(params: Params) -> About:
    return {name: (leaf.shape, leaf.dtype) for name, leaf in _leaves(params).items()}
