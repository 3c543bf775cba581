"""In how many parts large arrays are computed, one after another, so that memory stays bounded."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_whole = ContextVar("whole", default=False)


def parts_of(size: int, most: int) -> int:
    """How many parts of at most `most` make `size`; 1 where `in_one_part` holds."""
    return 1 if _whole.get() else -(-size // most)


@contextmanager
def in_one_part() -> Iterator[None]:
    """What is traced inside has one part, whatever memory it takes.

    The compiler's analysis of cost counts the body of a loop over parts once, so this is how the
    cost of a program is found; the program that runs has the parts.
    """
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)
