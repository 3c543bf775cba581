"""Attention over keys as a kernel for GPUs: its precision, and what the compiler says."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.attention import attention
from tests.ops.kernels.gpu_compiler import cost_without_spills, need_gpu_compiler

ROWS, HEADS = 2, 4


def compute(query, key, value, mask=None, implementation="auto"):
    options = {"softmax_scale": 0.3, "mask": mask, "implementation": implementation}
    return attention(query, key, value, **options)


def test_in_bfloat16_it_is_as_exact_as_the_plain_form():
    keys = jax.random.split(jax.random.key(0), 3)
    lengths = (9, 200, 200)
    vectors = [
        jax.random.normal(key, (1, 1, length, 64), jnp.bfloat16)
        for key, length in zip(keys, lengths)
    ]
    exact = compute(*(array.astype(jnp.float32) for array in vectors))
    plain, ours = (
        jax.jit(partial(compute, implementation=name))(*vectors) for name in ("xla", "pallas_gpu")
    )
    assert ours.dtype == jnp.bfloat16
    plain_error, error = (
        np.linalg.norm(np.float32(array) - np.float32(exact)) for array in (plain, ours)
    )
    assert 0 < error < 1.2 * plain_error


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("dim", [32, 64, 128])
@pytest.mark.parametrize("chip", ["h100", "a100"])
def test_no_register_is_spilled_and_logits_stay_on_chip(chip, dim, dtype):
    """Of the first scales, of a scale that fills blocks, and of a masked text."""
    need_gpu_compiler()
    for queries, keys, masked in ((1, 1, 0), (9, 14, 0), (25, 55, 0), (256, 680, 0), (64, 77, 1)):
        query, key = (
            jax.ShapeDtypeStruct((ROWS, HEADS, length, dim), dtype) for length in (queries, keys)
        )
        mask = (jax.ShapeDtypeStruct((ROWS, keys), bool),) if masked else ()
        cost = cost_without_spills(chip, compute, (query, key, key, *mask))
        vectors = 2 * (query.size + key.size) * query.dtype.itemsize
        masks = 3 * ROWS * keys * masked  # read, written as whole bytes, and read
        turned = 2 * query.size * query.dtype.itemsize  # queries and outputs, to other layouts
        assert cost.bytes_moved <= vectors + masks + 2 * turned
        assert cost.flops >= 4 * ROWS * HEADS * queries * keys * dim
