"""A trace of some steps, for TensorBoard's and Perfetto's views of a device's time."""

from pathlib import Path

import jax

from mvar_jax.typing import PyTree


class Profiler:
    """Traces the steps from `first` to `last` into a directory. Use it in a `with` block.

    (0, 0) traces nothing. Only the first process traces.
    """

    def __init__(self, steps: tuple[int, int], directory: Path):
        self._first, self._last = steps if jax.process_index() == 0 else (0, 0)
        self._directory, self._tracing = directory, False

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_) -> None:
        self._stop()

    def before(self, step: int) -> None:
        """A step is about to be made."""
        if not self._tracing and self._first <= step <= self._last:
            jax.profiler.start_trace(self._directory)
            self._tracing = True

    def after(self, step: int, results: PyTree) -> None:
        """A step was started, and will give these results."""
        if self._tracing and step >= self._last:
            jax.block_until_ready(results)
            self._stop()

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
