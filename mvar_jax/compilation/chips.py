"""What is known of a chip: its published peak figures, and what its compiler is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mvar_jax.mesh.hardware import peak_flops

Options = Mapping[str, str | bool]


@dataclass(frozen=True)
class Compiler:
    """What the compiler of a chip is told.

    platform: "tpu" or "cuda", as JAX names the compiler.
    extra: the extra of this package that installs it.
    target: of a TPU the name of its configuration; of a GPU the text of its `GpuTargetConfigProto`.
    options: of every program.
    estimate_options: of programs whose cost is estimated, in place of `options`.
    """

    platform: str
    extra: str
    target: str
    options: Options = field(default_factory=dict)
    estimate_options: Options = field(default_factory=dict)


@dataclass(frozen=True)
class Chip:
    """One chip, or one GPU.

    peak_flops: bfloat16 FLOP/s.
    memory_bytes: what programs may take of its memory.
    memory_bandwidth: bytes/s.
    link_bandwidth: bytes/s that all its links to other chips send together.
    compiler: what its compiler is told.
    network_bandwidth: bytes/s that it sends to other hosts; None where links lead there too.
    """

    peak_flops: float
    memory_bytes: int
    memory_bandwidth: float
    link_bandwidth: float
    compiler: Compiler
    network_bandwidth: float | None = None


def listed_peak(device_kind: str) -> float:
    """Peak FLOP/s of a kind of device that the table of `mesh.hardware` has."""
    peak = peak_flops(device_kind)
    assert peak is not None, device_kind
    return peak


# Keeps the compiler from splitting matmuls into loops that gather their operands meanwhile: the
# body of a loop is counted once.
WHOLE_PRODUCTS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}
GIB = 2**30


def _tpu(
    device_kind: str, gib: int, memory_bandwidth: float, links: float, target: str = "default"
) -> Chip:
    compiler = Compiler("tpu", "tpu", target, estimate_options=WHOLE_PRODUCTS)
    return Chip(listed_peak(device_kind), gib * GIB, memory_bandwidth, links, compiler)


# Cloud TPU's pages on system architecture: per chip, all links in one direction. On a v4 both cores
# are one device.
TPUS = {
    "v4": _tpu("TPU v4", 32, 1228e9, 300e9, "megacore"),
    "v5e": _tpu("TPU v5 lite", 16, 819e9, 200e9),
    "v5p": _tpu("TPU v5", 95, 2765e9, 600e9),
    "v6e": _tpu("TPU v6 lite", 32, 1640e9, 448e9),
}
