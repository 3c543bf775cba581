"""The tensors in pickles of PyTorch: what such a pickle may name, and what that stands for here."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mvar_jax.checks import check
from mvar_jax.tensor_files.stored_tensor import StoredTensor, whole_numbers

STORAGES = {
    "torch.FloatStorage": np.float32,
    "torch.HalfStorage": np.float16,
    "torch.BFloat16Storage": ml_dtypes.bfloat16,
    "torch.DoubleStorage": np.float64,
    "torch.LongStorage": np.int64,
    "torch.IntStorage": np.int32,
    "torch.ShortStorage": np.int16,
    "torch.CharStorage": np.int8,
    "torch.ByteStorage": np.uint8,
    "torch.BoolStorage": np.bool_,
}
MAX_INDEX_BYTES = 1 << 24  # of a pickle: twenty times what the largest training checkpoint needs
LONGEST_KEY = 100  # characters of a storage's, which messages show
UNLIKE = "is not described as torch.save describes it"


@dataclass(frozen=True)
class Storage:
    """The numbers of one storage, `count` of them from byte `start` of the file."""

    start: int
    dtype: np.dtype
    count: int


def known_names(file: Path) -> dict[str, Any]:
    """What a pickle of tensors in a file may name, as `unpickle` takes it."""
    known: dict[str, Callable] = {
        "collections.OrderedDict": _ordered_dict,
        "torch.Size": tuple,
        "torch._utils._rebuild_tensor_v2": _Rebuild(file),
        "torch._utils._rebuild_parameter": _rebuild_parameter,
    }
    return known | {name: np.dtype(kind) for name, kind in STORAGES.items()}


def read_identity(identity: Any) -> tuple[np.dtype, str, int]:
    """The dtype of a storage, its key and how many numbers it has, from its persistent id.

    Raises ValueError for a view of another storage, and for what torch.save does not write.
    """
    sound = type(identity) is tuple and len(identity) in (5, 6) and identity[0] == "storage"
    check(sound and (*identity, None)[5] is None, f"a tensor's storage {UNLIKE}")
    _, dtype, key, _, count, *_ = identity
    check(
        isinstance(dtype, np.dtype)
        and (isinstance(key, str) and len(key) <= LONGEST_KEY)
        and (type(count) is int and 0 <= count <= sys.maxsize),
        f"a tensor's storage {UNLIKE}",
    )
    return dtype, key, count


@dataclass(frozen=True)
class _Rebuild:
    """A tensor of a file from its storage."""

    file: Path

    def __call__(self, storage, offset, shape, strides, *_) -> StoredTensor:
        check(
            isinstance(storage, Storage) and type(offset) is int and 0 <= offset,
            f"a tensor {UNLIKE}",
        )
        start = storage.start + offset * storage.dtype.itemsize
        room = storage.count - offset
        shape, strides = whole_numbers(shape), whole_numbers(strides)
        return StoredTensor(self.file, start, storage.dtype, shape, strides, room)


def _rebuild_parameter(data, *_) -> StoredTensor:
    check(isinstance(data, StoredTensor), "a parameter is not a tensor")
    return data


def _ordered_dict(pairs=()) -> dict:
    """Empty, or as Python 2 wrote it with what it holds."""
    sound = isinstance(pairs, (list, tuple)) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str)
        for pair in pairs
    )
    check(sound, "a dict is not made of names and values")
    return dict(pairs)
