"""The attention kernels for GPUs: precision, visited blocks, and what the compiler says."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.kernels.joined_scales import Static
from mvar_jax.ops.kernels.spans_gpu import flops_of, keys_of, queries_of, spans_of, steps
from mvar_jax.ops.scale_attention import scale_attention
from mvar_jax.scales import ScaleSchedule
from tests.ops.agreement import value_and_gradients
from tests.ops.kernels.gpu_compiler import cost_without_spills, need_gpu_compiler

SLICES = ((0, 1), (1, 150), (150, 300))


def compute(arrays, schedule, implementation):
    """Attention over the history, of normalised queries and keys."""
    rest = {"slices": schedule.slices, "softmax_scale": 1.0, "reach": "history"}
    *vectors, log_scale = arrays
    return scale_attention(*vectors, **rest, log_scale=log_scale, implementation=implementation)


def test_in_bfloat16_it_is_as_exact_as_the_plain_form():
    schedule = ScaleSchedule(((1, 1), (6, 7), (6, 8)))
    keys = jax.random.split(jax.random.key(0), 3)
    shape = (1, 1, schedule.total, 64)
    vectors = [jax.random.normal(key, shape, jnp.bfloat16) for key in keys]
    arrays = (*vectors, jnp.full(1, 2.0))
    exact = jax.tree.map(lambda array: array.astype(jnp.float32), arrays)
    results = []
    for given, name in ((exact, "xla"), (arrays, "xla"), (arrays, "pallas_gpu")):
        run = partial(compute, schedule=schedule, implementation=name)
        results.append(jax.jit(partial(value_and_gradients, run))(given))
    for expected, plain, ours in zip(*map(jax.tree.leaves, results), strict=True):
        assert ours.dtype == plain.dtype
        plain_error, error = (
            np.linalg.norm(np.float32(array) - np.float32(expected)) for array in (plain, ours)
        )
        assert error < 1.2 * plain_error


@pytest.mark.parametrize(
    ("reach", "others", "expected"),
    [
        ("history", keys_of, [(0, 5), (0, 5), (0, 10), (0, 10), (0, 10)]),
        ("history", queries_of, [(0, 10), (0, 10), (0, 10), (4, 10), (4, 10)]),
        ("scale", keys_of, [(0, 5), (0, 5), (0, 10), (4, 10), (4, 10)]),
    ],
)
def test_a_program_visits_only_blocks_that_it_needs(reach, others, expected):
    static = Static(SLICES, 2, 16, 1.0, reach, False)
    visited = []
    for own in range(0, 300, 64):
        spans = spans_of(jnp.int32(own), 64, others, static)
        visited.append(tuple(map(int, steps(spans, 32))))
    assert visited == expected
    count = sum(stop - start for start, stop in expected)
    assert flops_of(static, 64, 32, others) == count * 2 * 64 * 32 * 16


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("chip", ["h100", "a100"])
def test_no_register_is_spilled(chip, dim, dtype):
    need_gpu_compiler()
    schedule = ScaleSchedule(((1, 1), (8, 8), (16, 16)))

    def gradients(arrays, by_output):
        run = partial(compute, schedule=schedule, implementation="auto")
        return jax.vjp(run, arrays)[1](by_output)

    vector = jax.ShapeDtypeStruct((2, 2, schedule.total, dim), dtype)
    log_scale = jax.ShapeDtypeStruct((2,), jnp.float32)
    flops = cost_without_spills(chip, gradients, ((*(vector,) * 3, log_scale), vector)).flops
    seen = sum(length * stop for length, stop in ((1, 1), (64, 65), (256, 321)))
    assert flops > 2 * 9 * 4 * seen * dim  # nine matmuls for every head of every image
