"""How an official state dict maps to our parameters: a table of entries, and what reads it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mvar_jax.typing import Params

IDENTITY = ()
LINEAR = (1, 0)  # (out, in) -> (in, out)
CONV2D = (2, 3, 1, 0)  # (out, in, height, width) -> (height, width, in, out)
CONV1D = (2, 1, 0)  # (channels, 1, kernel) -> (kernel, 1, channels)


@dataclass(frozen=True)
class Entry:
    """One official tensor, or some of its rows, and the array it becomes here.

    `official` has shape `official_shape`. Its `rows` (first, end) along axis 0, all when None,
    are permuted by `permutation` and reshaped to `shape`. `path` leads to the array in our
    tree; with `layer` it is that index of an array that stacks alike layers on axis 0.
    """

    official: str
    official_shape: tuple[int, ...]
    path: tuple[str, ...]
    shape: tuple[int, ...]
    permutation: tuple[int, ...] = IDENTITY
    layer: int | None = None
    rows: tuple[int, int] | None = None

    def __post_init__(self):
        assert math.prod(self.piece_shape) == math.prod(self.shape), self

    @property
    def piece_shape(self) -> tuple[int, ...]:
        """Shape of the official rows that this entry takes."""
        first, end = self.rows or (0, self.official_shape[0] if self.official_shape else 1)
        return (end - first, *self.official_shape[1:]) if self.official_shape else ()

    def read(self, tensor: np.ndarray) -> np.ndarray:
        """Our array, from the whole official tensor."""
        piece = tensor if self.rows is None else tensor[slice(*self.rows)]
        order = self.permutation or tuple(range(piece.ndim))
        return np.transpose(piece, order).reshape(self.shape)


def read_params(entries: Iterable[Entry], state: Mapping[str, np.ndarray]) -> Params:
    """Our nested dict of parameters, from the official tensors that the entries name.

    Raises ValueError for a missing tensor or one of another shape than the table expects.
    """
    flat: dict[tuple[str, ...], np.ndarray | dict[int, np.ndarray]] = {}
    for entry in entries:
        if entry.official not in state:
            raise ValueError(f"{entry.official}: missing from the state dict.")
        tensor = state[entry.official]
        if tuple(tensor.shape) != entry.official_shape:
            raise ValueError(
                f"{entry.official}: got shape {tuple(tensor.shape)}, "
                f"expected {entry.official_shape}."
            )
        if entry.layer is None:
            flat[entry.path] = entry.read(tensor)
        else:
            flat.setdefault(entry.path, {})[entry.layer] = entry.read(tensor)
    params: Params = {}
    for path, value in flat.items():
        node = params
        for name in path[:-1]:
            node = node.setdefault(name, {})
        stacked = isinstance(value, dict)
        node[path[-1]] = np.stack([value[i] for i in range(len(value))]) if stacked else value
    return params
