"""Sets of images to measure: an .npz of one array, or a folder, read a batch at a time."""

import hashlib
import math
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from mvar_jax.checks import check
from mvar_jax.data.decode import decode_image
from mvar_jax.data.folder import SUFFIXES, walk

ENTRY = "arr_0"  # of an .npz, as np.savez calls its first array and ADM's evaluator reads it
THREADS = 8


@runtime_checkable
class ImageSet(Protocol):
    """Images of one size in a fixed order."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""

    def name(self, index: int) -> str:
        """What a user finds an image by."""

    def batches(self, size: int) -> Iterator[UInt8[np.ndarray, "_ height width_px 3"]]:
        """The images, `size` at a time; the last batch may be smaller. Reads no further ahead."""


def open_images(path: Path) -> ImageSet:
    """The images of a folder, with those of its folders, or in the entry `arr_0` of an .npz.

    Raises ValueError for a folder without images and a file without that entry, or of another
    shape or dtype than uint8 [images, height, width, 3].
    """
    return FolderImages.open(path) if path.is_dir() else ArrayImages.open(path)


def holds_images(path: Path) -> bool:
    """Whether there are images. Raises ValueError for a file that is no .npz."""
    return path.is_dir() or ENTRY in entries(path)


def entries(path: Path) -> set[str]:
    """The names of the arrays in an .npz. Raises ValueError for another file."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise ValueError(f"{path}: not an .npz, expected one, or a folder of images.") from None
    return {name.removesuffix(".npy") for name in names}


def digest(path: Path) -> str:
    """The SHA-256 of a file; of a folder, that of the names of its images and their SHA-256."""
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    lines = (f"{file.relative_to(path).as_posix()} {digest(file)}\n" for file in _files(path))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class ArrayImages:
    """The images of an .npz, uint8 [count, height, width, 3]."""

    path: Path
    count: int
    size: tuple[int, int]

    @classmethod
    def open(cls, path: Path) -> "ArrayImages":
        """Reads no more than the array's header."""
        found = entries(path)
        check(
            ENTRY in found,
            f"{path}: holds {', '.join(sorted(found)) or 'nothing'}, expected images as {ENTRY}.",
        )
        with zipfile.ZipFile(path) as archive, archive.open(f"{ENTRY}.npy") as stream:
            shape, in_columns, dtype = _header(stream)
        check(
            len(shape) == 4 and shape[3:] == (3,) and 0 not in shape and dtype == np.uint8,
            f"{path}: {ENTRY} is {dtype} {list(shape)}, expected uint8 [images, height, width, 3] "
            "of values from 0 to 255.",
        )
        check(not in_columns, f"{path}: {ENTRY} is stored by columns; save it in C order.")
        return cls(path, shape[0], (shape[1], shape[2]))

    def name(self, index: int) -> str:
        """The file and the image's number."""
        return f"{self.path}, image {index}"

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Reads and unpacks what a batch needs."""
        one = math.prod((*self.size, 3))
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{ENTRY}.npy") as stream:
            _header(stream)
            for first in range(0, self.count, size):
                shape = (min(size, self.count - first), *self.size, 3)
                content = stream.read(math.prod(shape))
                check(
                    len(content) == math.prod(shape),
                    f"{self.path}: {ENTRY} ends in image {first + len(content) // one} of "
                    f"{self.count}; write it again.",
                )
                yield np.frombuffer(content, np.uint8).reshape(shape)


@dataclass(frozen=True)
class FolderImages:
    """The images of a folder and of those below it, in the order of their paths."""

    files: tuple[Path, ...]
    size: tuple[int, int]

    @classmethod
    def open(cls, path: Path) -> "FolderImages":
        """Decodes the first image, whose size is that of all."""
        files = _files(path)
        check(
            len(files) > 0,
            f"{path}: holds no images, expected files named as {', '.join(sorted(SUFFIXES))}.",
        )
        height, width, _ = _decode(files[0]).shape
        return cls(files, (height, width))

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.files)

    def name(self, index: int) -> str:
        """The image's file."""
        return str(self.files[index])

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Decodes a batch by several threads."""
        with ThreadPoolExecutor(THREADS) as pool:
            for first in range(0, self.count, size):
                yield np.stack(list(pool.map(self._read, self.files[first : first + size])))

    def _read(self, file: Path) -> np.ndarray:
        image = _decode(file)
        check(
            image.shape[:2] == self.size,
            f"{file}: has {image.shape[0]} x {image.shape[1]} pixels, expected "
            f"{self.size[0]} x {self.size[1]} as {self.files[0].name}; bring all to one size.",
        )
        return image


def _files(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(file for file in walk(folder, ()) if file.suffix.lower() in SUFFIXES))


def _decode(file: Path) -> np.ndarray:
    try:
        return decode_image(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}; replace it.") from None


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is stored by columns, and dtype of the array that a stream begins with."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
    return (read or np.lib.format.read_array_header_2_0)(stream)
