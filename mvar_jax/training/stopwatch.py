"""The time of a run, per phase."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds per named phase. A phase inside another one pauses the outer one."""

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self.seconds: dict[str, float] = {}
        self._now, self._since = now, now()
        self._phase: str | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time inside the `with` block to a phase."""
        outer = self._switch(name)
        try:
            yield
        finally:
            self._switch(outer)

    def read(self, name: str) -> float:
        """Seconds of a phase up to now."""
        running = self._now() - self._since if self._phase == name else 0.0
        return self.seconds.get(name, 0.0) + running

    def _switch(self, name: str | None) -> str | None:
        outer, now = self._phase, self._now()
        if outer is not None:
            self.seconds[outer] = self.seconds.get(outer, 0.0) + now - self._since
        self._phase, self._since = name, now
        return outer
