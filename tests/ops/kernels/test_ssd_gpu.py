"""The state-space kernels for GPUs: their accuracy in 16 bits, and what compilers make of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.compilation.program import Program
from mvar_jax.compilation.topology import get_chip, topology_devices
from mvar_jax.ops.kernels import ssd_gpu
from mvar_jax.ops.ssd import ssd
from tests.ops.agreement import value_and_gradients

GPU_COMPILER = "jax_cuda12_plugin"
NO_SPILLS = {"xla_gpu_fail_ptx_compilation_on_register_spilling": True}
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


@pytest.mark.parametrize("chip", ["h100", "a100"])
def test_no_register_is_spilled_and_matmuls_are_counted(chip):
    pytest.importorskip(GPU_COMPILER, reason="it comes with the extra [gpu_compiler]")
    mesh = jax.sharding.Mesh(np.array(topology_devices(f"{chip}:1x1")[:1]), ("data",))
    options = {**get_chip(f"{chip}:1x1").compiler.options, **NO_SPILLS}
    with jax.set_mesh(mesh):
        sharding = jax.sharding.NamedSharding(mesh, jax.P())
        arrays = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            jax.eval_shape(partial(inputs, "bfloat16")),
        )
        training = partial(value_and_gradients, partial(compute, implementation="pallas_gpu"))
        cost = Program(training, *[arrays], options=options).cost
    tokens = BATCH * 2 * ssd_gpu.CHUNK  # in two whole chunks
    products = tokens * HEADS * ssd_gpu.CHUNK * (2 * STATE + DIM + 3 * STATE + 2 * DIM)
    products += tokens * HEADS * STATE * DIM * (2 + 1 + 3)
    assert 2 * products < cost.flops < 2.5 * products
