"""Traces some steps, for TensorBoard's profiler and Perfetto."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax

from mvar_jax.files import BucketPath, draft_folder, names_below, publish


class Profiler:
    """Traces the steps from `first` to `last` into a directory. Use it in a `with` block.

    (0, 0) traces nothing. Only process 0 traces.
    """

    def __init__(self, steps: tuple[int, int], directory: Path):
        self._first, self._last = steps if jax.process_index() == 0 else (0, 0)
        self._directory, self._tracing = directory, False
        self._drafts = ExitStack()

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_) -> None:
        self._stop()

    def run(self, number: int, step: Callable, *arguments: Any) -> Any:
        """Calls a step and returns its result; traces it if `number` is in the range."""
        if not self._tracing and self._first <= number <= self._last:
            self._start()
        results = step(*arguments)
        if self._tracing and number >= self._last:
            jax.block_until_ready(results)
            self._stop()
        return results

    def _start(self) -> None:
        self._written = self._directory
        if isinstance(self._directory, BucketPath):
            self._written = self._drafts.enter_context(draft_folder(self._directory))
        jax.profiler.start_trace(self._written)
        self._tracing = True

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
            if self._written is not self._directory:
                for name in names_below(self._written):
                    publish(self._written / name, self._directory / name)
            self._drafts.close()
