"""Compiles the state-space kernels for GPUs that are not there, in a process of its own.

    python -m tests.ops.kernels.compile_ssd_gpu h100 a100

Fails where registers are spilled, and where the compiled program's cost is not that of the matmuls.
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp

from mvar_jax.ops.kernels.ssd_gpu import CHUNK
from mvar_jax.ops.ssd import ssd
from tests.ops.agreement import value_and_gradients
from tests.ops.kernels.gpu_compiler import cost_without_spills

BATCH, LENGTH, HEADS, DIM, STATE = 2, 100, 4, 64, 64


def inputs(dtype):
    """x, dt, decay rate, b, c and skip; values of x, b and c that 16 bits hold."""
    keys = jax.random.split(jax.random.key(1), 4)
    shapes = ((BATCH, LENGTH, HEADS, DIM), (BATCH, LENGTH, STATE), (BATCH, LENGTH, STATE))
    x, b, c = (jax.random.normal(key, shape, "bfloat16") for key, shape in zip(keys, shapes))
    dt = jax.nn.softplus(jax.random.normal(keys[3], (BATCH, LENGTH, HEADS)) - 2)
    heads = jnp.arange(1.0, 1.0 + HEADS)
    return x.astype(dtype), dt, -heads, b.astype(dtype), c.astype(dtype), heads


def compute(arrays, implementation):
    *rest, skip = arrays
    return ssd(*rest, skip=skip, return_state=False, implementation=implementation)[0]


def check_compiled(chip: str) -> None:
    """Compiles value and gradients for one GPU."""
    arrays = jax.eval_shape(partial(inputs, "bfloat16"))
    training = partial(value_and_gradients, partial(compute, implementation="auto"))
    cost = cost_without_spills(chip, training, (arrays,))
    tokens = BATCH * 2 * CHUNK  # in two whole chunks
    matmuls = 2 * tokens * HEADS * CHUNK * (2 * STATE + DIM + 3 * STATE + 2 * DIM)
    matmuls += 2 * tokens * HEADS * STATE * DIM * (2 + 1 + 3)
    assert matmuls < cost.flops < 1.2 * matmuls, (matmuls, cost)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        check_compiled(name)
