"""Speed, utilisation and memory of a run on its machine."""

from dataclasses import dataclass

import jax

from mvar_jax.mesh.hardware import peak_flops
from mvar_jax.training.metrics import Row
from mvar_jax.training.stopwatch import Stopwatch


@dataclass(frozen=True)
class StepCost:
    """Images of one step, of all processes, and its model FLOPs (0 if not known)."""

    images: int
    flops: int | float = 0


class Throughput:
    """Speed since the last row, from the clock's phase "train".

    Validating, saving, drawing and compiling do not count, and neither do steps that are left out
    since they compile; a row after no other step has no speed.
    """

    def __init__(self, cost: StepCost, first: int, clock: Stopwatch):
        self._cost, self._clock = cost, clock
        self._step, self._left_out, self._seconds = first, 0, 0.0

    def leave_out(self) -> None:
        """Leaves a step out, whose time the clock counts elsewhere."""
        self._left_out += 1

    def row(self, step: int) -> Row:
        """The measurements at a step, without those that the machine does not report.

        They are `step_seconds`, `images_per_second`, `mfu` (model FLOPs / the devices' peak, from 0
        to 1), and `device_memory_bytes` (peak memory so far, on the fullest device of this
        process).
        """
        row: Row = {"step": step}
        seconds = self._clock.read("train")
        counted = step - self._step - self._left_out
        if counted:
            pace = (seconds - self._seconds) / counted
            row |= {"step_seconds": pace, "images_per_second": self._cost.images / pace}
            peak = peak_flops(jax.devices()[0].device_kind)
            if peak is not None and self._cost.flops:
                row["mfu"] = self._cost.flops / (pace * peak * jax.device_count())
        self._step, self._left_out, self._seconds = step, 0, seconds
        stats = [device.memory_stats() or {} for device in jax.local_devices()]
        used = [found["peak_bytes_in_use"] for found in stats if "peak_bytes_in_use" in found]
        return row | ({"device_memory_bytes": max(used)} if used else {})
