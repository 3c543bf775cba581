"""Being asked to stop: SIGTERM, which schedulers send before they take a machine away."""

import signal
import threading

import jax
from jax.experimental import multihost_utils

from mvar_jax.mesh.processes import TRY_AGAIN


class Preempted(SystemExit):
    """The run was asked to stop and has saved its state.

    Uncaught it ends one process with exit code 0, and several with `TRY_AGAIN`: those that
    did not get the signal must not look as if they had finished.
    """

    def __init__(self):
        super().__init__(0 if jax.process_count() == 1 else TRY_AGAIN)


class Preemption:
    """Whether the run was asked to stop by SIGTERM. Use it in a `with` block.

    One process takes the signal itself, where it runs in the main thread: the first is
    remembered, a second one ends the process at once, as it would anywhere else. Of several
    processes JAX takes it, and all of them learn of it at the same step.
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
        if self._asked and kind is None:  # asked for after the last step, which is saved
            raise Preempted

    def reached(self, step: int) -> bool:
        """Whether to save and stop after this step; asked after every step, by all processes."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._asked

    def _take(self, number: int, _) -> None:
        self._asked = True
        signal.signal(number, signal.SIG_DFL)
