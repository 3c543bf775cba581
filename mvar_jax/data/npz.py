"""The arrays of an .npz file, read without NumPy's own loader, which can run what a file says.

Whatever is wrong with a file, and it may come from anywhere, is a ValueError of one sentence.
"""

import errno
import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mvar_jax.checks import check, first_line

SUFFIX = ".npy"  # of an array in the archive
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    KeyError,
    OverflowError,
    RuntimeError,  # for encrypted files, and as NotImplementedError for other compressions
    ValueError,
)
LONGEST = 100  # characters of a library's message, which may quote the file


@dataclass(frozen=True)
class StoredArray:
    """An array of an open file, whose numbers are read in their order."""

    path: Path
    name: str
    shape: tuple[int, ...]
    in_columns: bool
    dtype: np.dtype
    stream: Any

    def take(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end. Raises ValueError for damage."""
        with _damage_named(self.path):
            return self.stream.read(size)

    def end(self) -> None:
        """Raises ValueError unless all was read, to the checksum of the archive."""
        check(not self.take(1), damage(self.path, f"{self.name} goes on behind its last number"))


def array_names(path: Path) -> set[str]:
    """The names of the arrays in an .npz. Raises ValueError for another file."""
    with _damage_named(path), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return {name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)}


@contextmanager
def open_array(path: Path, name: str) -> Iterator[StoredArray]:
    """An array that the file holds, of which no more than the header is read.

    Raises ValueError for damage, and for an array of Python objects.
    """
    with ExitStack() as opened:
        with _damage_named(path):
            archive = opened.enter_context(zipfile.ZipFile(path))
            stream = opened.enter_context(archive.open(name + SUFFIX))
            header = _header(name, stream)
        yield StoredArray(path, name, *header, stream)


def read_array(path: Path, name: str) -> np.ndarray:
    """An array that the file holds. Raises ValueError as `open_array` does."""
    with open_array(path, name) as stored:
        size = math.prod(stored.shape) * stored.dtype.itemsize
        content = stored.take(size)
        check(len(content) == size, damage(path, f"{name} is cut off"))
        stored.end()
    flat = np.ndarray(math.prod(stored.shape), stored.dtype, content)
    return flat.reshape(stored.shape, order="F" if stored.in_columns else "C")


def damage(path: Path, reason: str) -> str:
    """The message for a file that cannot be read."""
    return (
        f"{path}: is damaged or no .npz ({reason}), expected arrays as np.savez writes them; write "
        "it again."
    )


def _header(name: str, stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is stored by columns, and dtype of the array that a stream begins with."""
    try:
        early = np.lib.format.read_magic(stream) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if early else None
        shape, in_columns, dtype = (read or np.lib.format.read_array_header_2_0)(stream)
    except (ValueError, TypeError, tokenize.TokenError):  # whose messages quote the file
        raise ValueError(f"{name} does not begin as an array does") from None
    check(min(shape, default=0) >= 0, f"{name} has the shape {list(shape)}")
    check(not dtype.hasobject, f"{name} is of Python objects, not of numbers")
    return shape, in_columns, dtype


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (*DAMAGE, OSError) as error:
        # Of the system's errors, those of a place before the file's start and of bz2's content.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ValueError(damage(path, first_line(error)[:LONGEST])) from None
