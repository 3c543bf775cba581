"""Speed and utilisation of a machine, from a fake clock and a fake device."""

from types import SimpleNamespace

import jax
import pytest

from mvar_jax.mesh.hardware import peak_flops
from mvar_jax.training.stopwatch import Stopwatch
from mvar_jax.training.throughput import StepCost, Throughput


@pytest.fixture
def clock():
    """A clock in the phase "train", which stands at its attribute `time`."""

    class Standing(Stopwatch):
        time = 0.0

        def __init__(self):
            super().__init__(lambda: self.time)

    clock = Standing()
    with clock.phase("train"):
        yield clock


@pytest.fixture
def device(monkeypatch):
    """A TPU v4 with 30 bytes in use at most, and one like it elsewhere."""
    fake = SimpleNamespace(
        device_kind="TPU v4", memory_stats=lambda: {"peak_bytes_in_use": 30, "bytes_in_use": 7}
    )
    monkeypatch.setattr(jax, "devices", lambda: [fake, fake])
    monkeypatch.setattr(jax, "local_devices", lambda: [fake])
    monkeypatch.setattr(jax, "device_count", lambda: 2)


def test_speed_since_the_last_row(device, clock):
    throughput = Throughput(StepCost(images=8, flops=275e12), 10, clock)
    throughput.leave_out()  # the first of the three steps compiled
    clock.time = 4.0
    row = throughput.row(13)
    assert row == {
        "step": 13,
        "step_seconds": 2.0,
        "images_per_second": 4.0,
        "mfu": 0.25,
        "device_memory_bytes": 30,
    }
    clock.time = 5.0
    assert throughput.row(15)["step_seconds"] == 0.5


def test_the_step_that_compiles_has_no_speed(clock):
    throughput = Throughput(StepCost(8, 1.0), 10, clock)
    throughput.leave_out()
    assert throughput.row(11) == {"step": 11}


def test_a_later_step_that_compiles_is_left_out_too(clock):
    throughput = Throughput(StepCost(8, 1.0), 0, clock)
    clock.time = 1.0
    throughput.row(1)
    throughput.leave_out()
    clock.time = 4.0
    assert throughput.row(3)["step_seconds"] == 3.0


def test_a_cpu_has_no_peak(clock):
    throughput = Throughput(StepCost(8, 1.0), 0, clock)
    throughput.leave_out()
    clock.time = 1.0
    assert throughput.row(2) == {"step": 2, "step_seconds": 1.0, "images_per_second": 8.0}


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v5 lite", 197e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA L40S", 362e12),
        ("cpu", None),
    ],
)
def test_peaks(kind, peak):
    assert peak_flops(kind) == peak
