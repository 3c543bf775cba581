"""Topologies by name, such as "v5e:16x16" or "h100:2x8": a chip, and how many of them."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from mvar_jax.checks import check, first_line, install_command
from mvar_jax.compilation.chips import TPUS, Chip
from mvar_jax.compilation.gpus import GPUS

CHIPS = TPUS | GPUS
HOSTS_AND_GPUS = re.compile(r"([1-9]\d{0,3})x([1-9]|1[0-6])")
# JAX on a GPU allocates this share of its memory at the start, and takes no more.
MEMORY_FRACTION = "0.75"
MEMORY_VARIABLES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")


def get_chip(topology: str) -> Chip:
    """The chip of a topology.

    Of a GPU's memory programs may take 75%, or what the environment variables say that JAX reads
    for it. Raises ValueError for an unknown chip, a topology without a shape, and a share that is
    none.
    """
    kind, _, shape = topology.partition(":")
    check(
        kind in CHIPS and shape != "",
        f"--topology: got {topology!r}, expected one of {', '.join(CHIPS)} and a shape, "
        "as in v5e:16x16, v4:4x4x4, or h100:2x8 for 2 hosts of 8 GPUs.",
    )
    chip = CHIPS[kind]
    if kind in TPUS:
        return chip
    return replace(chip, memory_bytes=int(_memory_fraction() * chip.memory_bytes))


def topology_devices(topology: str) -> Sequence[jax.Device]:
    """The devices of a topology, to compile for; none of them need exist.

    Raises ValueError if the compiler is not installed, and for shapes that do not exist.
    """
    return _gpus(topology) if topology.partition(":")[0] in GPUS else _tpus(topology)


def _tpus(topology: str) -> Sequence[jax.Device]:
    target = get_chip(topology).compiler.target
    try:
        description = topologies.get_topology_desc(topology, "tpu", chip_config_name=target)
    except Exception as error:  # the plugin raises many kinds, down to bare RuntimeError
        raise ValueError(
            f"--topology: cannot make {topology} ({first_line(error)[:200]}); expected a shape "
            f"that exists, and the TPU compiler: {install_command('tpu')}."
        ) from None
    return description.devices


def _gpus(topology: str) -> Sequence[jax.Device]:
    """GPUs, after a first small program: the plugin alone cannot compile."""
    shape = HOSTS_AND_GPUS.fullmatch(topology.partition(":")[2])
    if shape is None:
        raise ValueError(
            f"--topology: got {topology!r}, expected hosts x GPUs of a host, at most 9999x16, as "
            "in h100:1x8."
        )
    compiler = get_chip(topology).compiler
    try:
        devices = topologies.get_topology_desc(
            platform=compiler.platform,
            topology=f"{shape[1]}x1x{shape[2]}",  # each host is a node by itself
            target_config=compiler.target,
        ).devices
        sharding = jax.sharding.SingleDeviceSharding(devices[0])
        jax.jit(jnp.exp).lower(jax.ShapeDtypeStruct((), "float32", sharding=sharding)).compile()
    except Exception as error:  # of many kinds too: without the plugin, without its assembler
        raise ValueError(
            f"--topology: cannot compile for {topology} ({first_line(error)[:200]}); expected "
            f"NVIDIA's compiler: {install_command(compiler.extra)}."
        ) from None
    return devices


def _memory_fraction() -> float:
    given = [name for name in MEMORY_VARIABLES if os.environ.get(name)]
    check(
        len(given) < 2, f"{' and '.join(given)}: got both, of which JAX takes one; unset the other."
    )
    text = os.environ[given[0]] if given else MEMORY_FRACTION
    check(
        re.fullmatch(r"\d*\.?\d+", text) is not None and 0 < float(text) <= 1,
        f"{' and '.join(given)}: got {text!r}, expected a share of the GPU's memory above 0, up "
        "to 1; set it or unset it.",
    )
    return float(text)
