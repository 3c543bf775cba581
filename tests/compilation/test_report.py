"""Roofline and utilisation of a report, by hand."""

from dataclasses import replace

import pytest

from mvar_jax.compilation.chips import Chip, Compiler
from mvar_jax.compilation.program import Cost, Instruction
from mvar_jax.compilation.report import REMEDY, Part, Report, largest_arrays
from mvar_jax.evaluation.programs import ProgramMemory
from tests.compilation import FIXED_NAMES

CHIP = Chip(
    peak_flops=100.0,
    memory_bytes=1000,
    memory_bandwidth=10.0,
    link_bandwidth=2.0,
    compiler=Compiler("tpu", "tpu", "default"),
)
REPORT = Report(
    topology="v0:2",
    chips=2,
    chip=CHIP,
    memory=ProgramMemory(arguments=400, results=0, temporaries=100, code=1),
    parts=[
        Part("block", Cost(200.0, 10.0, {"all-gather": 4.0}), times=3),  # 2 s of arithmetic
        Part("optimizer", Cost(1.0, 50.0, {})),  # 5 s of traffic
    ],
    model_flops=1700.0,
    compile_seconds=7.0,
    heaviest=[Instruction("fusion", "f32[4]", 16, "jit(step)/block")],
)


def test_parts_take_the_longer_of_arithmetic_and_traffic_plus_communication():
    assert REPORT.seconds == pytest.approx(3 * 2 + 3 * 2 + 5)
    assert REPORT.utilisation == pytest.approx(1700 / (2 * 100 * 17))
    assert REPORT.bytes_per_chip == 501
    assert REPORT.total == Cost(601.0, 80.0, {"all-gather": 12.0})


def test_json_has_the_fixed_names():
    assert FIXED_NAMES <= REPORT.as_json().keys()
    assert REPORT.as_json()["roofline_seconds"] == REPORT.seconds


def test_text_names_parts_and_heaviest_instructions():
    text = REPORT.as_text()
    for expected in ("v0:2: 2 chips", "| block | 3 |", "jit(step)/block"):
        assert expected in text


def test_utilisation_says_whose_flops_it_counts():
    assert "ms, model FLOPs utilisation 50.0%" in REPORT.as_text()
    figures = REPORT.as_json()
    assert figures["model_flops_per_step"] == 850 and figures["roofline_mfu_of"] == "model"
    program = replace(REPORT, model_flops=None)
    assert program.utilisation == pytest.approx(601 / (100 * 17))
    assert "ms, program FLOPs utilisation 35.4%" in program.as_text()
    figures = program.as_json()
    assert figures["model_flops_per_step"] is None and figures["roofline_mfu_of"] == "program"


def test_what_runs_beside_arithmetic_is_told():
    assert REPORT.hidden_seconds == 0 and "beside arithmetic" not in REPORT.as_text()
    blocks = Part("block", Cost(200.0, 10.0, {"all-gather": 4.0}, beside_arithmetic=3.0), times=3)
    longer = Part("head", Cost(100.0, 1.0, {"all-gather": 9.0}, beside_arithmetic=9.0))
    report = replace(REPORT, parts=[blocks, longer])
    assert report.seconds == pytest.approx(3 * (2 + 2) + 1 + 4.5)
    assert report.hidden_seconds == pytest.approx(3 * 1.5 + 1)  # of the head as long as it computes
    assert "of it 5500.0 ms are exchange that the program runs beside" in report.as_text()
    assert report.as_json()["roofline_hidden_seconds"] == report.hidden_seconds


def test_between_hosts_the_slower_of_links_and_network_counts():
    slow = replace(CHIP, network_bandwidth=0.5)
    part = Part("block", Cost(0, 0, {"all-gather": 4.0}, between_hosts=2.0), times=3)
    assert part.exchange_seconds(CHIP) == pytest.approx(3 * 2)
    assert part.exchange_seconds(slow) == pytest.approx(3 * 4)
    assert part.exchange_seconds(replace(slow, network_bandwidth=2.0)) == pytest.approx(3 * 2)
    report = replace(REPORT, chip=slow, parts=[part])
    assert report.as_json()["bytes_between_hosts_per_step"] == 6.0
    assert "of network, which is assumed" in report.as_text()
    assert "network" not in REPORT.as_text()


def test_a_lack_of_memory_is_said_in_either_form_of_the_compiler():
    listed = """RESOURCE_EXHAUSTED: Ran out of memory. Used 19.87G of 15.75G hbm. Exceeded by 4.12G.
      1. Size: 2.50G
         Operator: op_name="jit(step)/dot"
         Shape: bf16[16,680]{1,0}
    """
    assert largest_arrays(listed, "v5e:1x1").splitlines() == [
        "error: does not fit into v5e:1x1: Used 19.87G of 15.75G hbm.",
        "Largest arrays:",
        "  2.50G bf16[16,680]{1,0} jit(step)/dot",
        REMEDY,
    ]
    alone = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
        "required for HLO temporaries (29.50G) exceeds available HBM (15.75G). HLO module: draw."
    )
    assert largest_arrays(alone, "v5e:1x1").splitlines() == [
        "error: does not fit into v5e:1x1: the total memory required for HLO temporaries (29.50G) "
        "exceeds available HBM (15.75G).",
        REMEDY,
    ]
