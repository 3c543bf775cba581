"""Sets of images to measure: an .npz of one array, or a folder, read a batch at a time."""

import hashlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from mvar_jax.checks import check
from mvar_jax.data.decode import decode_image
from mvar_jax.data.folder import SUFFIXES, walk
from mvar_jax.data.npz import array_names, open_array
from mvar_jax.files import file_checksum

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
    return path.is_dir() or ENTRY in array_names(path)


def filled(
    batch: UInt8[np.ndarray, "_ height width_px 3"], size: int
) -> UInt8[np.ndarray, "size height width_px 3"]:
    """A batch with black images after its own, up to `size`: one program computes all batches."""
    images = np.zeros((size, *batch.shape[1:]), np.uint8)
    images[: len(batch)] = batch
    return images


def digest(path: Path) -> str:
    """The SHA-256 of a file; of a folder, that of the names of its images and their SHA-256."""
    if path.is_file():
        return file_checksum(path)
    files = _files(path)
    lines = (f"{file.relative_to(path).as_posix()} {file_checksum(file)}\n" for file in files)
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
        found = array_names(path)
        check(
            ENTRY in found,
            f"{path}: holds {', '.join(sorted(found)) or 'nothing'}, expected images as {ENTRY}.",
        )
        with open_array(path, ENTRY) as stored:
            shape = stored.shape
        check(
            len(shape) == 4 and shape[3:] == (3,) and 0 not in shape and stored.dtype == np.uint8,
            f"{path}: {ENTRY} is {stored.dtype} {list(shape)}, expected uint8 [images, height, "
            "width, 3] of values from 0 to 255.",
        )
        check(not stored.in_columns, f"{path}: {ENTRY} is stored by columns; save it in C order.")
        return cls(path, shape[0], (shape[1], shape[2]))

    def name(self, index: int) -> str:
        """The file and the image's number."""
        return f"{self.path}, image {index}"

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Reads and unpacks what a batch needs."""
        one = math.prod((*self.size, 3))
        with open_array(self.path, ENTRY) as stored:
            for first in range(0, self.count, size):
                shape = (min(size, self.count - first), *self.size, 3)
                content = stored.take(math.prod(shape))
                check(
                    len(content) == math.prod(shape),
                    f"{self.path}: {ENTRY} ends in image {first + len(content) // one} of "
                    f"{self.count}; write it again.",
                )
                yield np.frombuffer(content, np.uint8).reshape(shape)
            stored.end()


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
