"""Where the training data is after a number of steps, for another number of processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

Position = dict[str, Any]


def is_of_this_process(folder: Path) -> bool:
    """Whether a saved place in the data is that of as many processes as there are now.

    Grain keeps one file a process. A folder that is not there or holds none passes: what is wrong
    with it shows when it is loaded.
    """
    names = {path.name for path in folder.glob("process_*-of-*.json")}
    own = f"process_{jax.process_index()}-of-{jax.process_count()}.json"
    return not names or own in names


def wind(batches: Iterator, steps: int) -> None:
    """Moves a fresh Grain iterator to where it is after so many batches.

    The place is counted, not read: every batch moves the numbers in the iterator's state by the
    same amount. Raises ValueError for an iterator of which that is not true.
    """
    start = batches.get_state()
    next(batches)
    once = batches.get_state()
    next(batches)
    if _moved(start, once, 2) != batches.get_state():
        raise ValueError(
            "the place in the training data cannot be counted for another number of processes; "
            "resume with the number that the run was saved with."
        )
    batches.set_state(_moved(start, once, steps))


def _moved(start: Position, once: Position, steps: int) -> Position:
    """A state whose numbers are `steps` times as far from `start` as those of `once`."""

    def move(begin: Any, end: Any) -> Any:
        if isinstance(begin, int) and not isinstance(begin, bool):
            return begin + steps * (end - begin)
        return begin

    return jax.tree.map(move, start, once)
