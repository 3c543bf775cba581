"""PyTorch's zip files of tensors (.pth, .pt), read without PyTorch and without executing them.

Such a file is an uncompressed zip archive: NAME/data.pkl is a pickle of containers whose tensors
refer to NAME/data/KEY, the numbers of one storage.
"""

import importlib.util
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mvar_jax.checks import check
from mvar_jax.convert.pickled import unpickle
from mvar_jax.convert.torch_tensors import MAX_INDEX_BYTES, Storage, known_names, read_identity

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
        index = self.content(indices[0], MAX_INDEX_BYTES)
        return unpickle(index, known_names(self.file), self.storage)

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

    def storage(self, identity: Any) -> Storage:
        dtype, key, count = read_identity(identity)
        start, size = self.place(f"{self.folder}/data/{key}")
        check(
            count * dtype.itemsize <= size,
            f"its entry {self.folder}/data/{key} has {size} bytes, expected {count} numbers of "
            f"{dtype.itemsize}",
        )
        return Storage(start, dtype, count)
