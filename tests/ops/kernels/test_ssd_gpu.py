"""The state-space kernels for GPUs: their accuracy in 16 bits, and what compilers make of them."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.ops.kernels.compile_ssd_gpu import compute, inputs
from tests.ops.kernels.gpu_compiler import need_gpu_compiler


def test_in_16_bits_it_is_as_accurate_as_plain_jax():
    def run(dtype, implementation):
        arrays = inputs(dtype)
        y, backward = jax.vjp(partial(compute, implementation=implementation), arrays)
        gradients = backward(jnp.cos(arrays[0]).astype("bfloat16").astype(dtype))
        return [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves((y, gradients))]

    exact = run("float32", "xla")
    plain, kernel = (run("bfloat16", name) for name in ("xla", "pallas_gpu"))
    for true, other, own in zip(exact, plain, kernel, strict=True):
        allowed = max(np.sqrt(np.mean((other - true) ** 2)), 2**-9 * np.sqrt(np.mean(true**2)))
        assert np.sqrt(np.mean((own - true) ** 2)) < 1.5 * allowed


@pytest.mark.slow
def test_no_register_is_spilled_and_matmuls_are_counted():
    need_gpu_compiler()
    # In a process of its own, where JAX looks for no GPU.
    program = [sys.executable, "-m", "tests.ops.kernels.compile_ssd_gpu", "h100", "a100"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
