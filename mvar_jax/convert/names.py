"""How an official state dict maps to our parameters: a table of entries, and what reads it."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mvar_jax.array_types import HostArray, Params, PyTree
from mvar_jax.tensor_files.stored_tensor import StoredTensor

Tensor: TypeAlias = HostArray | StoredTensor

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

    @property
    def order(self) -> tuple[int, ...]:
        """The official axes in the order of ours."""
        return self.permutation or tuple(range(len(self.piece_shape)))

    def read(self, tensor: Tensor) -> np.ndarray:
        """Our array, from the whole official tensor."""
        tensor = np.asarray(tensor)
        piece = tensor if self.rows is None else tensor[slice(*self.rows)]
        return np.transpose(piece, self.order).reshape(self.shape)

    def write(self, array: np.ndarray, tensor: np.ndarray) -> None:
        """Puts our array where `read` takes it from: into its rows of the official tensor."""
        piece = tensor if self.rows is None else tensor[slice(*self.rows)]
        permuted = array.reshape([self.piece_shape[axis] for axis in self.order])
        piece[...] = np.transpose(permuted, np.argsort(self.order))


def read_params(entries: Iterable[Entry], state: Mapping[str, Tensor]) -> Params:
    """Our nested dict of parameters, from the official tensors that the entries name.

    Raises ValueError for a missing tensor or one of another shape than the table expects.
    """
    entries = list(entries)
    for entry in entries:
        if entry.official not in state:
            raise ValueError(f"{entry.official}: missing from the state dict.")
        shape = tuple(state[entry.official].shape)
        if shape != entry.official_shape:
            raise ValueError(
                f"{entry.official}: got shape {shape}, expected {entry.official_shape}."
            )
    params: Params = {}
    for path, array in read_arrays(entries, state):
        node = params
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = array
    return params


def read_arrays(
    entries: Iterable[Entry], state: Mapping[str, Tensor], dtype: np.dtype | None = None
) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Each of our arrays with its path, the largest first; layers that stack are joined.

    Without a `dtype` they have that of the tensors, and may be views of them.
    """
    paths: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        paths.setdefault(entry.path, []).append(entry)
    # Whoever writes them leaves holes in the memory, beside which the largest would come to lie.
    for path, parts in sorted(paths.items(), key=lambda item: -_size(item[1])):
        read = _read if parts[0].layer is None else _join
        yield path, read(parts, state, dtype)


def _size(parts: list[Entry]) -> int:
    """How many numbers an array has."""
    return sum(math.prod(part.shape) for part in parts)


def _read(entries: list[Entry], state: Mapping[str, Tensor], dtype: np.dtype | None) -> np.ndarray:
    """The array of one entry."""
    (entry,) = entries
    array = entry.read(state[entry.official])
    return array if dtype is None else np.array(array, dtype, order="C")


def _join(layers: list[Entry], state: Mapping[str, Tensor], dtype: np.dtype | None) -> np.ndarray:
    """The array that stacks layers, made once: beside it, memory holds one layer at a time."""
    if dtype is None:
        dtype = np.result_type(*(state[entry.official].dtype for entry in layers))
    joined = np.empty((len(layers), *layers[0].shape), dtype)
    for entry in layers:
        joined[entry.layer] = entry.read(state[entry.official])
    return joined


def write_tensor(entries: Iterable[Entry], params: Params) -> np.ndarray:
    """One official tensor, float32, from all the entries that name it: the way back."""
    entries = list(entries)
    tensor = np.empty(entries[0].official_shape, np.float32)
    for entry in entries:
        array: PyTree = params
        for name in entry.path:
            array = array[name]
        entry.write(np.asarray(array if entry.layer is None else array[entry.layer]), tensor)
    return tensor
