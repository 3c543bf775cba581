"""The safetensors format: a JSON header of names, dtypes and shapes, then the numbers.

Eight bytes hold the header's length; `data_offsets` count from its end. The library of that name
writes a file from arrays that are all in memory; this one takes them one after another.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from mvar_jax.checks import check
from mvar_jax.tensor_files.stored_tensor import StoredTensor, whole_numbers

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
LENGTH_BYTES = 8
ALIGNMENT = 8
MAX_HEADER_BYTES = 1 << 24
METADATA = "__metadata__"  # in place of a tensor's name

About: TypeAlias = Mapping[str, tuple[tuple[int, ...], np.dtype]]  # shapes and dtypes by name


def read_safetensors(file: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name, in the order of its header.

    Raises ValueError, without the file's name, for a header that is damaged, repeats a name,
    or has tensors that overlap, leave gaps or reach beyond the file.
    """
    header, first = _read_header(file)
    header.pop(METADATA, None)
    tensors, ends = {}, []
    for name, about in header.items():
        tensors[name], begin, end = _tensor(file, name, about, first)
        ends.append((begin, end))
    covered = 0
    for begin, end in sorted(ends):
        check(begin == covered, f"its tensors overlap or leave a gap at byte {begin} of the data")
        covered = end
    check(
        first + covered == file.stat().st_size,
        f"it has {file.stat().st_size} bytes, expected {first + covered} by its header: it is "
        "truncated or damaged",
    )
    return tensors


def read_metadata(file: Path) -> dict[str, Any]:
    """What the header of a file says besides its tensors. Raises ValueError if it is damaged."""
    metadata = _read_header(file)[0].get(METADATA)
    return metadata if isinstance(metadata, dict) else {}


def write_safetensors(
    file: Path,
    about: About,
    tensors: Iterable[tuple[str, np.ndarray]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes arrays one after another; `about` gives their names, shapes, dtypes and order."""
    with file.open("wb") as stream:
        stream.write(_header(about, metadata))
        for (name, (shape, dtype)), (given, array) in zip(about.items(), tensors, strict=True):
            assert (name, shape, dtype) == (given, array.shape, array.dtype), (name, given)
            stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def file_bytes(about: About, metadata: Mapping[str, str] | None = None) -> int:
    """How many bytes `write_safetensors` writes."""
    return len(_header(about, metadata)) + sum(_bytes(*item) for item in about.values())


def _header(about: About, metadata: Mapping[str, str] | None) -> bytes:
    """The header with its length in front."""
    header: dict[str, Any] = {} if metadata is None else {METADATA: dict(metadata)}
    end = 0
    names = {np.dtype(kind): name for name, kind in DTYPES.items()}
    for name, (shape, dtype) in about.items():
        begin, end = end, end + _bytes(shape, dtype)
        header[name] = {
            "dtype": names[dtype],
            "shape": list(shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The header, and where the numbers begin."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        first = LENGTH_BYTES + length
        check(
            length <= MAX_HEADER_BYTES and first <= size,
            f"its header should have {length} bytes, expected at most {MAX_HEADER_BYTES}, and "
            f"no more than the {size} bytes of the file: it is truncated or damaged",
        )
        return _parse(stream.read(length)), first


def _parse(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is damaged ({error})") from None
    check(isinstance(header, dict), "its header is damaged (not an object)")
    return header


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    check(len(names) == len(pairs), "a name occurs twice")
    return names


def _tensor(file: Path, name: str, about: Any, first: int) -> tuple[StoredTensor, int, int]:
    try:
        dtype, shape = np.dtype(DTYPES[about["dtype"]]), whole_numbers(about["shape"])
        begin, end = whole_numbers(about["data_offsets"])
        room = (end - begin) // dtype.itemsize
        tensor = StoredTensor.contiguous(file, first + begin, dtype, shape=shape, room=room)
        check(tensor.nbytes == end - begin, "size")
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"its tensor {name!r} is described by {str(about)[:200]}, expected a known dtype, a "
            "shape, and data_offsets of as many bytes"
        ) from None
    return tensor, begin, end
