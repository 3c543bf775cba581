"""A tensor in a file, which is read when needed."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mvar_jax.checks import check

MAX_AXES = 16
# The dtypes that parameters are stored in.
FLOATS = tuple(np.dtype(kind) for kind in (np.float32, np.float16, ml_dtypes.bfloat16))


def whole_numbers(values: Any) -> tuple[int, ...]:
    """A list of integers as a tuple. Raises ValueError when a file has something else there."""
    check(
        isinstance(values, (list, tuple))
        and all(type(value) is int and abs(value) <= sys.maxsize for value in values),
        "a tensor's sizes are no whole numbers",
    )
    return tuple(values)


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies, and how: `np.asarray` of it maps the file, and copies nothing.

    `start` is the byte of the first number in the file. `strides` count numbers. `room` is how
    many numbers the file holds for it from there on. Raises ValueError when the tensor would
    reach beyond them, or repeat some.
    """

    file: Path
    start: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    room: int

    def __post_init__(self):
        check(
            len(self.shape) == len(self.strides) <= MAX_AXES
            and min((self.start, *self.shape, *self.strides)) >= 0,
            f"a tensor has shape {self.shape[:MAX_AXES]} and strides {self.strides[:MAX_AXES]}, "
            f"expected as many numbers from 0 on in both, and at most {MAX_AXES}",
        )
        check(
            max(self.span, self.size) <= self.room,
            f"a tensor of shape {self.shape} with strides {self.strides} needs "
            f"{max(self.span, self.size)} numbers, but its storage holds {self.room} of them",
        )

    @classmethod
    def contiguous(
        cls, file: Path, start: int, dtype: np.dtype, *, shape: tuple[int, ...], room: int
    ):
        """A tensor in row-major order."""
        strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
        return cls(file, start, dtype, shape, strides, room)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def span(self) -> int:
        """How many numbers lie between its first and its last, both included."""
        if self.size == 0:
            return 0
        return 1 + sum((side - 1) * stride for side, stride in zip(self.shape, self.strides))

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.size * self.dtype.itemsize

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if self.size == 0:
            return np.zeros(self.shape, dtype or self.dtype)
        mapped = np.memmap(self.file, self.dtype, "r", self.start, (self.span,))
        strides = tuple(stride * self.dtype.itemsize for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(mapped, self.shape, strides)
        return view.astype(dtype or self.dtype, copy=bool(copy))
