import jax
import jax.numpy as jnp

from mvar_jax.evaluation.programs import program_memory

BYTES = 64 * 64 * 4


def memory(**donated):
    array = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    return program_memory(jax.jit(lambda a: a + 1, **donated).lower(array).compile())


def test_results_in_the_memory_of_donated_arguments_count_once():
    kept, donated = memory(), memory(donate_argnums=0)
    assert (kept.arguments, kept.results) == (BYTES, BYTES)
    assert (donated.arguments, donated.results) == (BYTES, 0)
    assert kept.peak == 2 * BYTES + kept.temporaries
    assert donated.peak == BYTES + donated.temporaries
