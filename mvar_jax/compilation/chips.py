"""Peak figures of TPU chips, as published."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
from jax.experimental import topologies

from mvar_jax.checks import check, first_line
from mvar_jax.mesh.hardware import peak_flops


@dataclass(frozen=True)
class Chip:
    """One chip: bfloat16 FLOP/s, bytes of memory, bytes/s of memory and of its links together.

    `config` is the compiler's name of the chip configuration: on a v4 both cores are one device.
    """

    peak_flops: float
    memory_bytes: int
    memory_bandwidth: float
    link_bandwidth: float
    config: str = "default"


def _peak(device_kind: str) -> float:
    peak = peak_flops(device_kind)
    assert peak is not None, device_kind  # those below are in its table
    return peak


GIB = 2**30
# Cloud TPU's pages on system architecture: per chip, all links in one direction.
CHIPS = {
    "v4": Chip(_peak("TPU v4"), 32 * GIB, 1228e9, 300e9, "megacore"),
    "v5e": Chip(_peak("TPU v5 lite"), 16 * GIB, 819e9, 200e9),
    "v5p": Chip(_peak("TPU v5"), 95 * GIB, 2765e9, 600e9),
    "v6e": Chip(_peak("TPU v6 lite"), 32 * GIB, 1640e9, 448e9),
}


def get_chip(topology: str) -> Chip:
    """The chip of a topology such as "v5e:16x16". Raises ValueError for unknown ones."""
    kind, _, shape = topology.partition(":")
    check(
        kind in CHIPS and shape != "",
        f"--topology: got {topology!r}, expected one of {', '.join(CHIPS)} and a shape, "
        "as in v5e:16x16 or v4:4x4x4.",
    )
    return CHIPS[kind]


def topology_devices(topology: str) -> Sequence[jax.Device]:
    """The devices of a topology, to compile for; none of them need exist.

    Raises ValueError if the TPU compiler is not installed, and for shapes it does not know.
    """
    config = get_chip(topology).config
    try:
        description = topologies.get_topology_desc(topology, "tpu", chip_config_name=config)
    except Exception as error:  # the plugin raises many kinds, down to bare RuntimeError
        raise ValueError(
            f"--topology: cannot make {topology} ({first_line(error)[:200]}); expected a shape "
            "that exists, and the TPU compiler: pip install -e '.[tpu]'."
        ) from None
    return description.devices
