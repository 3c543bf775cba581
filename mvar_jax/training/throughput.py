"""How fast a run is on its machine, and how much of it it uses."""

from dataclasses import dataclass

import jax

from mvar_jax.training.metrics import Row
from mvar_jax.training.stopwatch import Stopwatch

# Dense bfloat16 (V100, T4: float16) FLOP/s of one JAX device, by the start of its `device_kind`;
# the makers' data sheets. The first that fits counts.
PEAK_FLOPS = (
    ("TPU v2", 22.5e12),
    ("TPU v3", 61.5e12),
    ("TPU v4 lite", 138e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),
    ("TPU v6", 918e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA H100 NVL", 835e12),
    ("NVIDIA H100", 989e12),
    ("NVIDIA H200", 989e12),
    ("NVIDIA A100", 312e12),
    ("NVIDIA L40S", 362e12),
    ("NVIDIA L40", 181e12),
    ("NVIDIA L4", 121e12),
    ("Tesla V100", 125e12),
    ("Tesla T4", 65e12),
)


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
        row, seconds = {"step": step}, self._clock.read("train")
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


def peak_flops(device_kind: str) -> float | None:
    """FLOP/s that a kind of device reaches at most, None for a kind that is not in the table."""
    found = (peak for start, peak in PEAK_FLOPS if device_kind.startswith(start))
    return next(found, None)
