"""PyTorch's zip files of tensors (.pth, .pt), read without PyTorch and without executing them.

Such a file is an uncompressed zip archive: NAME/data.pkl is a pickle of containers whose tensors
refer to NAME/data/KEY, the numbers of one storage.
"""

import importlib.util
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mvar_jax.checks import check
from mvar_jax.convert.pickled import unpickle
from mvar_jax.convert.stored_tensor import StoredTensor, whole_numbers

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
MAX_INDEX_BYTES = 1 << 24  # of data.pkl: twenty times what the largest training checkpoint needs
LOCAL_HEADER = struct.Struct("<4s22xHH")


def read_pth(file: Path) -> Any:
    """What was saved, as plain containers, with a `StoredTensor` in place of every tensor.

    Raises ValueError, without the file's name, for a damaged archive and for anything in it but
    tensors and plain containers.
    """
    try:
        with zipfile.ZipFile(file) as archive, file.open("rb") as stream:
            return _Archive(file, archive, stream).read()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OverflowError) as error:
        raise ValueError(f"this zip archive is truncated or damaged ({error})") from None


def check_writable() -> None:
    """Raises ValueError where PyTorch, which writes these files, is not installed."""
    check(
        importlib.util.find_spec("torch") is not None,
        "--out: writing .pth needs PyTorch; install it, or give a name that ends in .safetensors.",
    )


def write_pth(
    file: Path, tensors: Iterable[tuple[str, np.ndarray]], within: str | None = None
) -> None:
    """Writes a state dict of named arrays, by PyTorch; `within` a dict where it has that key."""
    import torch  # noqa: PLC0415  optional, and slow to import

    state = {name: torch.from_numpy(array) for name, array in tensors}
    torch.save(state if within is None else {within: state}, file)


@dataclass(frozen=True)
class _Storage:
    """The numbers of one storage, `count` of them."""

    start: int  # byte in the file
    dtype: np.dtype
    count: int


class _Archive:
    def __init__(self, file: Path, archive: zipfile.ZipFile, stream):
        self.file, self.stream = file, stream
        self.size = file.stat().st_size
        self.entries = {info.filename: info for info in archive.infolist()}

    def read(self) -> Any:
        indices = [name for name in self.entries if name.partition("/")[2] == "data.pkl"]
        check(
            len(indices) == 1,
            f"this zip archive holds {len(indices)} files */data.pkl, expected one, as torch.save "
            "writes it",
        )
        self.folder = indices[0].partition("/")[0]
        named = f"{self.folder}/byteorder"
        order = (self.content(named, 16) if named in self.entries else b"") or b"little"
        check(order == b"little", f"its byte order is {order!r}, expected b'little'")
        known = {
            "collections.OrderedDict": _empty_dict,
            "torch.Size": tuple,
            "torch._utils._rebuild_tensor_v2": self.rebuild_tensor,
            "torch._utils._rebuild_parameter": _rebuild_parameter,
        }
        storages = {name: np.dtype(kind) for name, kind in STORAGES.items()}
        return unpickle(self.content(indices[0], MAX_INDEX_BYTES), known | storages, self.storage)

    def content(self, name: str, limit: int) -> bytes:
        start, size = self.place(name)
        check(size <= limit, f"its entry {name} has {size} bytes, expected at most {limit}")
        self.stream.seek(start)
        return self.stream.read(size)

    def place(self, name: str) -> tuple[int, int]:
        """First byte and number of bytes of an entry, which must lie in the file as it is."""
        check(name in self.entries, f"its entry {name} is missing")
        entry = self.entries[name]
        check(
            entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1,
            f"its entry {name} is compressed or encrypted, expected stored bytes as torch.save "
            "writes them",
        )
        self.stream.seek(max(0, entry.header_offset))
        header = self.stream.read(LOCAL_HEADER.size)
        check(header[:4] == b"PK\3\4" and len(header) == LOCAL_HEADER.size, f"{name} is damaged")
        _, name_length, extra_length = LOCAL_HEADER.unpack(header)
        start = entry.header_offset + LOCAL_HEADER.size + name_length + extra_length
        check(
            start + entry.file_size <= self.size,
            f"its entry {name} reaches beyond the end of the file: the archive is truncated",
        )
        return start, entry.file_size

    def storage(self, identity: Any) -> _Storage:
        check(
            type(identity) is tuple and len(identity) == 5 and identity[0] == "storage",
            "a tensor's storage is not described as torch.save describes it",
        )
        _, dtype, key, _, count = identity
        check(
            isinstance(dtype, np.dtype) and isinstance(key, str) and type(count) is int,
            "a tensor's storage is not described as torch.save describes it",
        )
        start, size = self.place(f"{self.folder}/data/{key}")
        check(
            0 <= count * dtype.itemsize <= size,
            f"its entry {self.folder}/data/{key} has {size} bytes, expected {count} numbers of "
            f"{dtype.itemsize}",
        )
        return _Storage(start, dtype, count)

    def rebuild_tensor(self, storage, offset, shape, strides, *_) -> StoredTensor:
        check(
            isinstance(storage, _Storage) and type(offset) is int and 0 <= offset,
            "a tensor is not described as torch.save describes it",
        )
        start = storage.start + offset * storage.dtype.itemsize
        room = storage.count - offset
        shape, strides = whole_numbers(shape), whole_numbers(strides)
        return StoredTensor(self.file, start, storage.dtype, shape, strides, room)


def _rebuild_parameter(data, *_) -> StoredTensor:
    check(isinstance(data, StoredTensor), "a parameter is not a tensor")
    return data


def _empty_dict() -> dict:
    return {}
