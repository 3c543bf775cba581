"""The FLOPs of a program that is traced and not compiled."""

import math
from typing import Any

import jax
import jax.extend.core

from mvar_jax.checks import check


def traced_flops(program: jax.extend.core.Jaxpr) -> int:
    """FLOPs of all matmuls of a traced program, those of a scan as often as it runs.

    A matmul of [a, b] and [b, c] counts 2abc; convolutions and elementwise arithmetic do not count.
    Raises ValueError for a matmul under a condition, or in a loop of unknown length.
    """
    total = 0
    for equation in program.eqns:
        kind, inner = equation.primitive.name, jax.extend.core.jaxprs_in_params(equation.params)
        if kind == "dot_general":
            total += _matmul_flops(equation)
        nested = sum(map(traced_flops, inner))
        check(
            nested == 0 or kind not in ("cond", "while"),
            f"program: a {kind} holds matmuls, so that their number is unknown; expected scans.",
        )
        total += nested * (equation.params["length"] if kind == "scan" else 1)
    return total


def _matmul_flops(equation: jax.extend.core.JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left: Any = equation.invars[0].aval
    result: Any = equation.outvars[0].aval
    return 2 * math.prod(left.shape[axis] for axis in contracted) * math.prod(result.shape)
