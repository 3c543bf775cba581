"""The compiler for NVIDIA's GPUs that are not there, refusing kernels that spill registers."""

from collections.abc import Callable

import jax
import pytest

from mvar_jax.array_types import PyTree
from mvar_jax.compilation.program import Cost, Program
from mvar_jax.compilation.topology import get_chip, topology_devices
from mvar_jax.config import MeshConfig
from mvar_jax.mesh.sharding import make_mesh

NO_SPILLS = {"xla_gpu_fail_ptx_compilation_on_register_spilling": True}


def need_gpu_compiler() -> None:
    """Skips a test where the compiler is not installed."""
    pytest.importorskip("jax_cuda12_plugin", reason="it comes with the extra [gpu_compiler]")


def cost_without_spills(chip: str, function: Callable, arguments: PyTree) -> Cost:
    """The cost of a function of arrays of some shapes, compiled for one GPU."""
    topology = f"{chip}:1x1"
    with jax.set_mesh(make_mesh(MeshConfig(), topology_devices(topology))):
        place = jax.NamedSharding(jax.sharding.get_mesh(), jax.P())
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), arguments
        )
        options = {**get_chip(topology).compiler.options, **NO_SPILLS}
        return Program(function, *shapes, options=options).cost
