"""What this machine reaches: its rates of matmul and copy, and its memory."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mvar_jax.evaluation.programs import timed

REPEATS = 7
CPU_SIDE, SIDE = 2048, 8192  # of the matrices
CPU_COPY, COPY = 2**27, 2**30  # bytes


class Rates(NamedTuple):
    """The best rates of one device."""

    matmul: float  # FLOP/s of a large product
    copy: float  # bytes/s, read and written


def measure_rates(dtype: DTypeLike) -> Rates:
    """The rates of the first device, by the fastest of several runs."""
    on_cpu = jax.default_backend() == "cpu"
    side = CPU_SIDE if on_cpu else SIDE
    matrix = jnp.full((side, side), 0.5, dtype)
    flops = 2 * side**3 / _fastest(jnp.matmul, matrix, matrix)
    return Rates(flops, _copy_rate((CPU_COPY if on_cpu else COPY) // 4))


def _copy_rate(count: int) -> float:
    """Bytes/s of negating `count` float32 numbers where they are: fresh memory would cost more."""
    array = jnp.zeros(count, jnp.float32)
    negate = jax.jit(jnp.negative, donate_argnums=0)

    def run():
        nonlocal array
        array = negate(array)
        return array

    return 2 * array.nbytes / min(timed(run) for _ in range(REPEATS))


def describe_machine(dtype: DTypeLike) -> dict[str, Any]:
    """What every row says of the machine: its devices and their rates for products in `dtype`."""
    rates, kind = measure_rates(dtype), jax.devices()[0].device_kind
    on_cpu = jax.default_backend() == "cpu"
    device = f"{os.cpu_count()} CPU cores" if on_cpu else kind
    if jax.device_count() > 1:
        device = f"{jax.device_count()} x {device}"
    return {
        "device": device,
        "dtype": jnp.dtype(dtype).name,
        "matmul_flops_per_second": rates.matmul,
        "copy_bytes_per_second": rates.copy,
    }


def memory_limit() -> int | None:
    """The bytes of one device's memory that JAX may take, None where it does not say."""
    found = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if found is None and jax.default_backend() == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return found


def _fastest(function: Callable[..., jax.Array], *arrays: jax.Array) -> float:
    run = partial(jax.jit(function), *arrays)
    return min(timed(run) for _ in range(REPEATS))
