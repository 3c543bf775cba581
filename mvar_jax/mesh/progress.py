"""Progress of a long task and the time left, on stderr: a bar, or lines in a log."""

import sys
import time

import jax
from tqdm import tqdm

PAUSE = 10  # seconds between two lines, if stderr is not a terminal


class TaskProgress:
    """Shows how much of a task of known size is done. Use it in a `with` block, or call `close`.

    `done` of `total` units are done at the start; the time left is estimated from the pace since
    then. On a terminal it is a bar; in a log it is a line at the first report, at the end, and at
    most every `PAUSE` seconds between them. Only the first process shows anything.
    """

    def __init__(self, label: str, total: int, unit: str, *, done: int = 0):
        self._label, self._total, self._unit = label, total, unit
        self._first = self._done = done
        self._start, self._next_line = time.monotonic(), -float("inf")
        self._shows, self._bar = jax.process_index() == 0, None
        if self._shows and sys.stderr.isatty():
            self._bar = tqdm(desc=label, total=total, unit=unit, initial=done, unit_scale=True)

    def __enter__(self) -> "TaskProgress":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def reach(self, done: int) -> None:
        """Reports that `done` units are done, those done at the start included."""
        self._done = done
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            if done >= self._total:
                self.close()
        elif self._shows and (done >= self._total or time.monotonic() >= self._next_line):
            self._next_line = time.monotonic() + PAUSE
            self._print_line()

    def advance(self, count: int = 1) -> None:
        """Reports that `count` more units are done."""
        self.reach(self._done + count)

    def close(self) -> None:
        """Closes the bar and leaves it on the terminal."""
        if self._bar is not None:
            self._bar.close()

    def _print_line(self) -> None:
        pace = (time.monotonic() - self._start) / max(self._done - self._first, 1)
        left = tqdm.format_interval(pace * (self._total - self._done))
        counts = f"{_in_short(self._done)}/{_in_short(self._total)}"
        sys.stderr.write(f"{self._label}: {self._unit} {counts} ({left} left)\n")
        sys.stderr.flush()


def _in_short(count: int) -> str:
    """9999, 12.3k, 1.28M."""
    return tqdm.format_sizeof(count) if count >= 10000 else str(count)
