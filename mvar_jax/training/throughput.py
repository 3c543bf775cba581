"""How fast a run is on its machine, and how much of it it uses."""

from dataclasses import dataclass

import jax

from mvar_jax.mesh.hardware import peak_flops
from mvar_jax.training.metrics import Row
from mvar_jax.training.stopwatch import Stopwatch


@dataclass(frozen=True)
class StepCost:
    """What one step takes in: images of all processes, and model FLOPs (0 where not known)."""

    images: int
    flops: int | float = 0


class Throughput:
    """Speed since the last row, from the clock's phase "train".

    Validating, saving, drawing and compiling do not count, nor does the first step, which
    compiles; so a row right after that one has no speed.
    """

    def __init__(self, cost: StepCost, first: int, clock: Stopwatch):
        self._cost, self._clock = cost, clock
        self._step, self._seconds = first + 1, 0.0

    def row(self, step: int) -> Row:
        """The numbers of the machine at a step; those that it does not tell are left out.

        `step_seconds`, `images_per_second`, `mfu` (share of the devices' peak that the model's
        FLOPs take, from 0 to 1), `device_memory_bytes` (most in use at a time so far, on the
        fullest of this process's devices).
        """
        row: Row = {"step": step}
        seconds = self._clock.read("train")
        if step > self._step:
            pace = (seconds - self._seconds) / (step - self._step)
            row |= {"step_seconds": pace, "images_per_second": self._cost.images / pace}
            peak = peak_flops(jax.devices()[0].device_kind)
            if peak is not None and self._cost.flops:
                row["mfu"] = self._cost.flops / (pace * peak * jax.device_count())
        self._step, self._seconds = step, seconds
        stats = [device.memory_stats() or {} for device in jax.local_devices()]
        used = [found["peak_bytes_in_use"] for found in stats if "peak_bytes_in_use" in found]
        return row | ({"device_memory_bytes": max(used)} if used else {})
