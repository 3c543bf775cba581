"""Preemption: SIGTERM, which schedulers send before they take a machine away."""

import signal
import threading

import jax
from jax.experimental import multihost_utils

from mvar_jax.mesh.processes import TRY_AGAIN


class Preempted(SystemExit):
    """The run was asked to stop and has saved its state.

    Uncaught it ends a single process with exit code 0, and each of several with `TRY_AGAIN`, since
    those that did not get the signal have not finished.
    """

    def __init__(self):
        super().__init__(0 if jax.process_count() == 1 else TRY_AGAIN)


class Preemption:
    """Whether the run was asked to stop by SIGTERM. Use it in a `with` block.

    A single process handles the signal itself, in its main thread: the first SIGTERM is recorded, a
    second one kills the process. With several processes JAX handles it, and all of them stop at the
    same step.
    """

    def __init__(self):
        self._asked = False
        self._handles = (
            jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
        )

    def __enter__(self) -> "Preemption":
        if self._handles:
            self._before = signal.signal(signal.SIGTERM, self._take)
        return self

    def __exit__(self, kind, *_) -> None:
        if self._handles:
            signal.signal(signal.SIGTERM, self._before)
        if self._asked and kind is None:  # asked after the last step, which is saved
            raise Preempted

    def reached(self, step: int) -> bool:
        """Whether to save and stop after this step; asked after every step, by all processes."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._asked

    def _take(self, number: int, _) -> None:
        self._asked = True
        signal.signal(number, signal.SIG_DFL)
