"""NumPy arrays in a pickle, read without executing it.

A pickled array is a call that makes an empty one, and then its state: a version, the shape, the
dtype, whether it lies by columns, and its bytes. Flax models used to be published so.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from mvar_jax.checks import check
from mvar_jax.convert.pickled import unpickle

KINDS = ("f2", "f4", "f8")
MOST = 10_000  # entries
LONGEST = 200  # letters of a name with those of the dicts around it
LARGEST = 1 << 30  # bytes of a file, which is read whole


def read_numpy_pickle(file: Path) -> dict[str, np.ndarray]:
    """The floating-point arrays of a pickled dict of dicts, by their keys joined with "/".

    Raises ValueError, with the file's name, for damage, for files above 1 GiB, and for anything
    else that the pickle holds.
    """
    try:
        check(file.stat().st_size <= LARGEST, f"it has more than {LARGEST} bytes")
        return _flat(unpickle(file.read_bytes(), _known(), _refuse))
    except ValueError as error:
        raise ValueError(f"{file}: {str(error).rstrip('.')}; expected weights alone.") from None


class _Type:
    """A dtype by its code."""

    def __init__(self, code: Any):
        named = code[:20] if isinstance(code, str) else type(code).__name__  # which may be huge
        check(named in KINDS, f"it has arrays of dtype {named!r}, expected {KINDS}")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        """The state of a dtype, of which the order of bytes counts."""
        check(state[1] == "<", "its arrays have their highest bytes first, expected the lowest")


class _Array:
    """An array, of which nothing is known before its state is."""

    value: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        """Takes the bytes, where they fill the shape."""
        _, shape, kind, by_columns, content = state
        check(
            isinstance(kind, _Type)
            and isinstance(content, bytes)
            and all(type(length) is int and length >= 0 for length in shape)
            and math.prod(shape) * kind.dtype.itemsize == len(content),
            "an array of it has more or fewer bytes than its shape says",
        )
        values = np.frombuffer(content, kind.dtype)
        self.value = values.reshape(shape, order="F" if by_columns is True else "C")


def _known() -> dict[str, Any]:
    def reconstruct(*_: Any) -> _Array:
        return _Array()

    def dtype(code: Any, *_: Any) -> _Type:
        return _Type(code)

    made = {f"numpy.{core}.multiarray._reconstruct": reconstruct for core in ("core", "_core")}
    return made | {"numpy.dtype": dtype, "numpy.ndarray": None}


def _refuse(_: Any) -> Any:
    raise ValueError("it refers to what is outside of it, expected arrays alone")


def _flat(tree: Any) -> dict[str, np.ndarray]:
    """Visits a bounded number of entries of bounded names: dicts may hold themselves."""
    found: dict[str, np.ndarray] = {}
    waiting: list[tuple[str, Any]] = [("", tree)]
    visited = 0
    while waiting:
        path, value = waiting.pop()
        visited += 1
        check(visited <= MOST, f"it has more than {MOST} entries")
        check(len(path) <= LONGEST, f"it has names of more than {LONGEST} letters: {path[:50]!r}")
        if isinstance(value, dict):
            waiting += [(_joined(path, key), own) for key, own in list(value.items())[:MOST]]
            continue
        content = value.value if isinstance(value, _Array) else None
        if content is None:
            raise ValueError(f"its entry {path!r} is no array, expected arrays")
        found[path] = content
    return found


def _joined(path: str, key: Any) -> str:
    name = str(key)[: LONGEST + 1]  # longer ones are refused
    return f"{path}/{name}" if path else name
