"""FLOPs of traced programs: every matmul, as often as it runs."""

import jax
import jax.numpy as jnp
import pytest

from mvar_jax.compilation.traced_program import traced_flops

ROWS, INNER, COLUMNS, TIMES = 3, 5, 7, 4
LEFT, RIGHT = jnp.ones((ROWS, INNER)), jnp.ones((INNER, COLUMNS))
ONE = 2 * ROWS * INNER * COLUMNS


def counted(function):
    return traced_flops(jax.make_jaxpr(function)(LEFT, RIGHT).jaxpr)


def test_matmuls_with_and_without_a_batch():
    assert counted(lambda a, b: jnp.exp(a @ b) + 1) == ONE
    assert counted(jax.jit(lambda a, b: jnp.stack([a] * 2) @ jnp.stack([b] * 2))) == 2 * ONE


def test_a_scan_counts_as_often_as_it_runs_as_xla_counts_it_unrolled():
    def repeated(unroll, a, b):
        return jax.lax.scan(lambda x, _: (x, x @ b), a, None, length=TIMES, unroll=unroll)

    assert counted(lambda a, b: repeated(1, a, b)) == TIMES * ONE
    xla = jax.jit(lambda a, b: [x @ b for x in [a] * TIMES]).lower(LEFT, RIGHT).cost_analysis()
    assert xla["flops"] == TIMES * ONE


@pytest.mark.parametrize("kind", ["cond", "while"])
def test_matmuls_of_unknown_number_are_refused(kind):
    functions = {
        "cond": lambda a, b: jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: jnp.zeros((3, 7))),
        "while": lambda a, b: jax.lax.while_loop(lambda c: c[0, 0] > 0, lambda c: c @ c.T @ c, b),
    }
    with pytest.raises(ValueError, match=f"a {kind} holds matmuls"):
        counted(functions[kind])
