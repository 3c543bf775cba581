"""PyTorch's files of before version 1.6, read without PyTorch and without executing them.

Such a file is a row of pickles: a magic number, a version, facts on the machine, what was saved and
the keys of its storages. After them come the storages in the order of their keys, each its number
of numbers, int64, and then these.
"""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np

from mvar_jax.checks import check
from mvar_jax.convert.pickled import unpickle
from mvar_jax.convert.torch_tensors import MAX_INDEX_BYTES, Storage, known_names, read_identity

BEGINNING = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the pickle of the magic number
VERSION = 1001
COUNT = struct.Struct("<q")


def read_early_pth(file: Path) -> Any:
    """What was saved, as `read_pth` returns it.

    Raises ValueError, without the file's name, for damage and for anything in it but tensors and
    plain containers.
    """
    with file.open("rb") as opened:
        head = io.BytesIO(opened.read(MAX_INDEX_BYTES))
    _, version, machine = (unpickle(head, {}, _refuse) for _ in range(3))
    little = isinstance(machine, dict) and machine.get("little_endian") is True
    check(  # without what the file says, which may be too deep or too long to show
        type(version) is int and version == VERSION and little,
        f"its version or order of bytes is another, expected {VERSION} with its lowest bytes first",
    )
    start, known = head.tell(), known_names(file)
    found: dict[str, Storage] = {}

    def remember(identity: Any) -> Storage:
        """A storage whose place is not known yet."""
        dtype, key, count = read_identity(identity)
        return found.setdefault(key, Storage(0, dtype, count))

    unpickle(head, known, remember)
    keys = unpickle(head, {}, _refuse)
    placed = _place(file, head.tell(), keys, found)
    head.seek(start)
    return unpickle(head, known, lambda identity: placed[read_identity(identity)[1]])


def _place(file: Path, start: int, keys: Any, found: dict[str, Storage]) -> dict[str, Storage]:
    """The storages where they lie in the file, which `keys` puts in order."""
    check(
        isinstance(keys, list)
        and len(keys) == len(found)
        and all(isinstance(key, str) for key in keys)
        and set(keys) == set(found),
        "its list of storages is not that of its tensors",
    )
    placed, size = {}, file.stat().st_size
    with file.open("rb") as stream:
        for key in keys:
            stream.seek(start)
            written, own = stream.read(COUNT.size), found[key]
            check(
                written == COUNT.pack(own.count),
                f"its storage {key} has another size than its tensors say, or is cut off",
            )
            placed[key] = Storage(start + COUNT.size, own.dtype, own.count)
            start += COUNT.size + own.count * np.dtype(own.dtype).itemsize
            check(start <= size, f"its storage {key} reaches beyond its end: the file is truncated")
    return placed


def _refuse(_: Any) -> Any:
    raise ValueError("its first part refers to tensors, expected plain numbers")
