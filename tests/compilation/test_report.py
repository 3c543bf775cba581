"""Roofline and utilisation of a report, by hand."""

import pytest

from mvar_jax.compilation.chips import Chip, get_chip
from mvar_jax.compilation.program import Cost, Instruction
from mvar_jax.compilation.report import Part, Report
from mvar_jax.evaluation.programs import ProgramMemory
from tests.compilation import FIXED_NAMES

CHIP = Chip(peak_flops=100.0, memory_bytes=1000, memory_bandwidth=10.0, link_bandwidth=2.0)
REPORT = Report(
    topology="v0:2",
    chips=2,
    chip=CHIP,
    memory=ProgramMemory(arguments=400, results=0, temporaries=100, code=1),
    parts=[
        Part("block", Cost(200.0, 10.0, {"all-gather": 4.0}), times=3),  # 2 s of arithmetic
        Part("optimizer", Cost(1.0, 50.0, {})),  # 5 s of traffic
    ],
    useful_flops=1700.0,
    compile_seconds=7.0,
    heaviest=[Instruction("fusion", "f32[4]", 16, "jit(step)/block")],
)


def test_parts_take_the_longer_of_arithmetic_and_traffic_plus_communication():
    assert REPORT.seconds == pytest.approx(3 * 2 + 3 * 2 + 5)
    assert REPORT.mfu == pytest.approx(1700 / (2 * 100 * 17))
    assert REPORT.bytes_per_chip == 501
    assert REPORT.total == Cost(601.0, 80.0, {"all-gather": 12.0})


def test_json_has_the_fixed_names():
    assert FIXED_NAMES <= REPORT.as_json().keys()
    assert REPORT.as_json()["roofline_seconds"] == REPORT.seconds


def test_text_names_parts_and_heaviest_instructions():
    text = REPORT.as_text()
    for expected in ("v0:2: 2 chips", "| block | 3 |", "jit(step)/block", "utilisation 50.0%"):
        assert expected in text


@pytest.mark.parametrize("topology", ["v5e", "h100:8", ""])
def test_unknown_chips_are_refused(topology):
    with pytest.raises(ValueError, match="expected one of v4, v5e"):
        get_chip(topology)
