"""What a compiled program costs: against arithmetic that is known."""

import jax
import jax.numpy as jnp
import pytest

from mvar_jax.compilation.program import Cost, Program


@pytest.fixture(scope="module")
def program():
    matrix = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    return Program(lambda a, b: jnp.tanh(a @ b), matrix, matrix)


def test_cost_of_a_matmul(program):
    assert program.cost.flops >= 2 * 64**3
    assert program.cost.flops < 2.2 * 64**3
    assert program.cost.bytes_moved >= 3 * 64 * 64 * 4
    assert program.cost.exchanged == {}
    assert program.memory.arguments == 2 * 64 * 64 * 4
    assert program.memory.results == 64 * 64 * 4


def test_memory_of_donated_arguments_is_no_result():
    array = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    assert Program(jax.jit(lambda a: a + 1, donate_argnums=0), array).memory.results == 0
    assert Program(lambda a: a + 1, array).memory.results == 64 * 64 * 4


def test_heaviest_instruction_is_the_matmul(program):
    heaviest = program.heaviest(1)[0]
    assert heaviest.bytes_moved >= 2 * 64 * 64 * 4
    assert "f32[64,64]" in heaviest.result


def test_costs_add_and_subtract():
    one = Cost(1.0, 10.0, {"all-gather": 2.0})
    two = Cost(5.0, 30.0, {"all-gather": 6.0, "all-reduce": 1.0}, between_hosts=1.0)
    layer = two - one
    assert layer == Cost(4.0, 20.0, {"all-gather": 4.0, "all-reduce": 1.0}, between_hosts=1.0)
    assert one + layer == two
    assert one * 3 == Cost(3.0, 30.0, {"all-gather": 6.0})
    assert (two * 3).between_hosts == 3.0
