"""Content with changed bytes: a reader reads it or refuses it in one sentence, nothing else."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """The content with one to three of its bytes replaced."""
    byte = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))

    def changed(bytes_by_place):
        result = bytearray(content)
        for place, value in bytes_by_place:
            result[place] = value
        return bytes(result)

    return st.lists(byte, min_size=1, max_size=3).map(changed)


def read_or_refused(read: Callable[[Any], object], source: Any) -> None:
    """Reads a source; the one error that may come of it is a ValueError of one line."""
    try:
        read(source)
    except ValueError as error:
        assert "\n" not in str(error)
