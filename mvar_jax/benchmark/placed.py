"""Programs on the devices of this machine: arrays on the config's mesh, memory that suffices."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import jax

from mvar_jax.array_types import PyTree
from mvar_jax.benchmark.machine import memory_limit
from mvar_jax.checks import check
from mvar_jax.compilation.chips import GIB
from mvar_jax.config import Config
from mvar_jax.evaluation.programs import ProgramMemory, program_memory
from mvar_jax.mesh.axes import BATCH
from mvar_jax.mesh.sharding import BatchLayout, make_mesh


@contextmanager
def local_mesh(config: Config, batches: Sequence[int], parts: int = 1) -> Iterator[None]:
    """Makes the config's mesh over all devices the ambient one.

    Raises ValueError unless its axes divide each of the `parts` of all batches.
    """
    mesh = make_mesh(config.mesh)
    for batch in batches:
        BatchLayout(mesh).check_batch(batch, parts)
    with jax.set_mesh(mesh):
        yield


def by_image(tree: PyTree) -> PyTree:
    """Arrays whose first axis counts images, split over the devices of the ambient mesh."""
    sharding = jax.sharding.NamedSharding(jax.sharding.get_mesh(), jax.P(BATCH))
    return jax.device_put(tree, sharding)


def check_fits(compiled: jax.stages.Compiled, batch: int) -> ProgramMemory:
    """What a program takes of a device. Raises ValueError if that is more than the device has."""
    memory, limit = program_memory(compiled), memory_limit()
    check(
        limit is None or memory.peak <= limit,
        f"--batch: got {batch}, which takes {memory.peak / GIB:.1f} GiB of the "
        f"{(limit or 0) / GIB:.1f} GiB that a device has; expected fewer images.",
    )
    return memory
