"""NVIDIA's GPUs: what XLA's compiler must know of a card that is not there."""

from typing import NamedTuple

from mvar_jax.compilation.chips import Chip, Compiler, listed_peak

# A GpuTargetConfigProto of XLA. An H100 and a B200 have what their compute capability has, and the
# same limits of threads and registers as an A100.
TARGET = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_core: {card.core_shared_memory}
  shared_memory_per_block_optin: {card.block_shared_memory}
  core_count: {card.cores}
  fpus_per_core: {card.fpus}
  clock_rate_ghz: {card.clock_ghz}
  device_memory_size: {card.memory_bytes}
  memory_bandwidth: {card.memory_bandwidth}
  l2_cache_size: {card.l2_bytes}
  cuda_compute_capability {{ major: {card.capability} minor: 0 }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 patch: 0 }}
runtime_version {{ major: 12 minor: 9 patch: 0 }}
device_description_str: "{card.name}"
"""

# Matmuls are cuBLAS's. The compiler's own would be tuned by running them: without a GPU they have
# untuned tiles, and some shapes are refused that a GPU computes.
OPTIONS = {"xla_gpu_enable_triton_gemm": False}


class Card(NamedTuple):
    """One card, as XLA's specification of it says. Sizes in bytes, bandwidth in bytes/s."""

    name: str
    capability: int
    cores: int
    fpus: int
    clock_ghz: float
    core_shared_memory: int
    block_shared_memory: int
    l2_bytes: int
    memory_bytes: int
    memory_bandwidth: int

    def chip(self, *, nvlink: float, network: float) -> Chip:
        """It as a chip, with bytes/s of its links and of its network adapter."""
        target = TARGET.format(card=self)
        return Chip(
            listed_peak(self.name),
            self.memory_bytes,
            float(self.memory_bandwidth),
            nvlink,
            Compiler("cuda", "gpu_compiler", target, OPTIONS, OPTIONS),
            network,
        )


_AMPERE = (8, 108, 64, 1.41, 167936, 166912, 41943040)
_HOPPER = (9, 132, 128, 1.98, 233472, 232448, 52428800)
_BLACKWELL = (10, 148, 128, 1.965, 233472, 232448, 132644864)

_A100 = Card("NVIDIA A100-SXM4-80GB", *_AMPERE, 85100068864, 2039040000000)
_H100 = Card("NVIDIA H100 80GB HBM3", *_HOPPER, 84942979072, 3352320000000)
_H200 = Card("NVIDIA H200", *_HOPPER, 151397597184, 4800000000000)
_B200 = Card("NVIDIA B200", *_BLACKWELL, 191514411008, 7672320000000)

# NVIDIA's data sheets: NVLink in one direction. The network is that of a DGX: an adapter for every
# GPU, of 200 Gbit/s beside an A100 and of 400 Gbit/s beside the others.
GPUS = {
    "a100": _A100.chip(nvlink=300e9, network=25e9),
    "h100": _H100.chip(nvlink=450e9, network=50e9),
    "h200": _H200.chip(nvlink=450e9, network=50e9),
    "b200": _B200.chip(nvlink=900e9, network=50e9),
}
