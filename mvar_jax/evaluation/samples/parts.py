"""The parts of a set of samples, each a file that is there whole or not at all.

A part holds the images that one device draws at a time. So which images are computed together, and
the row of each, follow from its number alone: they are the same bits on any number of devices and
hosts, and however often the work was interrupted.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mvar_jax.checks import check
from mvar_jax.files import local_copy, written_whole

Pixels = UInt8[np.ndarray, "batch height width_px 3"]


@dataclass(frozen=True)
class Parts:
    """`count` images of (height, width) pixels in parts of `size`; the last may hold fewer."""

    folder: Path
    count: int
    size: int
    image_size: tuple[int, int]

    def __len__(self) -> int:
        return math.ceil(self.count / self.size)

    def file(self, part: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{part:06d}-of-{len(self):06d}.npy"

    def numbers(self, part: int) -> range:
        """The numbers of its images."""
        return range(part * self.size, min((part + 1) * self.size, self.count))

    def exists(self, part: int) -> bool:
        """Whether a part is there, and whole: a machine that lost its power may leave less."""
        try:
            return np.load(local_copy(self.file(part)), mmap_mode="r").shape == self._shape(part)
        except (OSError, ValueError):
            return False

    def write(self, part: int, pixels: Pixels) -> None:
        """Writes a part. Two processes that write it by mistake do not harm each other."""
        check(
            pixels.shape == self._shape(part),
            f"part {part}: got pixels of the shape {pixels.shape}, expected {self._shape(part)}.",
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        with written_whole(self.file(part), shared=True) as draft, draft.open("wb") as file:
            np.save(file, pixels)

    def read(self) -> Iterator[Pixels]:
        """Yields the images of every part in order. Raises OSError where one is missing."""
        for part in range(len(self)):
            yield np.load(local_copy(self.file(part)))

    def _shape(self, part: int) -> tuple[int, ...]:
        return (len(self.numbers(part)), *self.image_size, 3)
