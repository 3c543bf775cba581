"""What programs take on the devices of this machine: a mesh, an example, memory that suffices."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import PyTree
from mvar_jax.benchmark.machine import memory_limit
from mvar_jax.checks import check
from mvar_jax.compilation.chips import GIB
from mvar_jax.config import Config
from mvar_jax.evaluation.programs import ProgramMemory, program_memory
from mvar_jax.mesh.axes import BATCH
from mvar_jax.mesh.sharding import BatchLayout, make_mesh
from mvar_jax.models import example_condition
from mvar_jax.ops.noise import image_keys
from mvar_jax.sampling import Filters, Request


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


def example_request(config: Config, batch: int) -> Request:
    """`batch` images of the first class, or of empty texts of the most tokens, over the mesh."""
    keys = image_keys(0, np.arange(batch, dtype=np.uint32))
    sharding = jax.sharding.NamedSharding(jax.sharding.get_mesh(), jax.P(BATCH))
    condition, keys = jax.device_put((example_condition(config.model, batch), keys), sharding)
    return Request(condition, keys, Filters.of(config.sampling, len(config.tokenizer.scales)))


def check_batch_fits(config: Config, batch: int, parts: int) -> None:
    """Raises ValueError if one layer's tokens of one of the `parts` are more than a device has.

    That spares compiling for minutes what `check_fits` would refuse.
    """
    limit, model = memory_limit(), config.model
    shares = parts * jax.sharding.get_mesh().size
    tokens = math.prod(config.tokenizer.scales[-1])
    taken = batch * tokens * model.width * jnp.dtype(model.compute_dtype).itemsize / shares
    check(
        limit is None or taken <= limit,
        f"--batch: got {batch}, whose tokens take {taken / GIB:.1f} GiB in every layer, of the "
        f"{(limit or 0) / GIB:.1f} GiB that a device has; expected fewer images.",
    )


def check_fits(compiled: jax.stages.Compiled, batch: int, *, beside: PyTree = ()) -> ProgramMemory:
    """What a program takes of a device, while it also holds the arrays `beside`.

    Raises ValueError if both are more than the device has.
    """
    memory, limit = program_memory(compiled), memory_limit()
    taken = memory.peak + sum(_local_bytes(array) for array in jax.tree.leaves(beside))
    check(
        limit is None or taken <= limit,
        f"--batch: got {batch}, which takes {taken / GIB:.1f} GiB of the "
        f"{(limit or 0) / GIB:.1f} GiB that a device has; expected fewer images.",
    )
    return memory


def _local_bytes(array: jax.Array) -> int:
    return math.prod(array.sharding.shard_shape(array.shape)) * array.dtype.itemsize
