"""What a compiled program costs: against arithmetic that is known."""

import jax
import jax.numpy as jnp
import pytest

from mvar_jax.compilation.program import Cost, Program, _instructions, _sizes

GATHER = (
    "  %all-gather-start.1 = (bf16[4,8]{1,0}, bf16[4,128]{1,0}) all-gather-start("
    "bf16[4,8]{1,0} %p), channel_id=1, dimensions={1}\n"
    "  %done = bf16[4,128]{1,0} all-gather-done((bf16[4,8], bf16[4,128]) %all-gather-start.1)\n"
)


@pytest.fixture(scope="module")
def program():
    matrix = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    return Program(lambda a, b: jnp.tanh(a @ b), matrix, matrix)


def test_cost_of_a_matrix_product(program):
    assert program.cost.flops >= 2 * 64**3
    assert program.cost.flops < 2.2 * 64**3
    assert program.cost.bytes_moved >= 3 * 64 * 64 * 4
    assert program.cost.exchanged == {}
    assert program.memory.arguments == 2 * 64 * 64 * 4
    assert program.memory.results == 64 * 64 * 4


def test_heaviest_instruction_is_the_product(program):
    heaviest = program.heaviest(1)[0]
    assert heaviest.bytes_moved >= 2 * 64 * 64 * 4
    assert "f32[64,64]" in heaviest.result


def test_a_started_collective_counts_once_and_by_its_result():
    kinds = _instructions(GATHER)
    assert [kind for kind, _, _ in kinds] == ["all-gather-start", "all-gather-done"]
    assert max(_sizes(kinds[0][1])) == 4 * 128 * 2


def test_costs_add_and_subtract():
    one = Cost(1.0, 10.0, {"all-gather": 2.0})
    two = Cost(5.0, 30.0, {"all-gather": 6.0, "all-reduce": 1.0})
    layer = two - one
    assert layer == Cost(4.0, 20.0, {"all-gather": 4.0, "all-reduce": 1.0})
    assert one + layer == Cost(5.0, 30.0, {"all-gather": 6.0, "all-reduce": 1.0})
    assert one * 3 == Cost(3.0, 30.0, {"all-gather": 6.0})
