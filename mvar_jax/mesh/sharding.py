"""Which device holds what: the mesh of a config, parameters by one table, and batches."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from mvar_jax.array_types import HostArray, PyTree, path_name
from mvar_jax.checks import check
from mvar_jax.config import MeshConfig
from mvar_jax.mesh.axes import BATCH, Axes, describe_mesh, devices_along

# The first axis of `blocks_i` counts layers and is never split: every step of the scan over
# layers would have to fetch its layer from one device.
RULES: list[tuple[str, Axes]] = [
    (r"blocks_\d+/attention/qkv", (None, "fsdp", None, "tensor", None)),  # width 3 heads dim
    (r"blocks_\d+/(attention|ssm)/out/kernel", (None, "tensor", None, "fsdp")),  # heads dim width
    (r"blocks_\d+/ffn/up/kernel", (None, "fsdp", "tensor")),
    (r"blocks_\d+/ffn/down/kernel", (None, "tensor", "fsdp")),
    (r"blocks_\d+/ssm/in_zx/kernel", (None, "fsdp", None, "tensor", None)),
    (r"blocks_\d+/ssm/in_bc/kernel", (None, "fsdp", None, None)),
    (r"blocks_\d+/ssm/in_dt/kernel", (None, "fsdp", "tensor")),
    # By their outputs: vectors are made where the weights lie and then exchanged. They are far
    # smaller than the weights, a third of all parameters.
    (r"blocks_\d+/modulation/kernel", (None, None, None, ("fsdp", "tensor"))),
    (r"(head|shared)_modulation/kernel", (None, None, ("fsdp", "tensor"))),
    (r"head/kernel", ("fsdp", "tensor")),
    (r"(class|position)_embedding", (None, "fsdp")),
    (r"word_embedding/kernel", (None, "fsdp")),
    # What is small, whole on every device.
    (r"start_position|level_embedding", ()),
    (r"blocks_\d+/(attention/(query|value)_bias|attention/query_scale|modulation_offset)", ()),
    (r"blocks_\d+/ssm/(conv_\w+/kernel|dt_bias|A_log|D|norm_scale)", ()),
    (r"(head|word_embedding|\w+_modulation|blocks_\d+/.*)/bias", ()),
    # The tokenizer: a tenth of a large trunk, and convolutions do not split by channels.
    (r"(encoder|decoder|quantizer|\w+_projection)/.*", ()),
]
"""Paths of parameters, as regular expressions, and the axes of the mesh that split them.

The first rule that matches the end of a path, from a name's start on, holds, so that optimizer
state and averages lie as their parameter does. An empty tuple repeats an array on all devices.
"""


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of a config over all devices of all processes, or over those given.

    Raises ValueError when the axes do not take exactly the devices that there are.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [config.data, config.fsdp, config.tensor]
    fixed = math.prod(size for size in sizes if size != -1)
    shape = tuple(len(devices) // fixed if size == -1 else size for size in sizes)
    check(
        math.prod(shape) == len(devices),
        f"mesh: data={config.data} x fsdp={config.fsdp} x tensor={config.tensor} does not make "
        f"{len(devices)} devices; choose sizes whose product is {len(devices)}, or -1 for the "
        "rest on one axis.",
    )
    names, types = ("data", "fsdp", "tensor"), (AxisType.Auto,) * 3
    slices = {getattr(device, "slice_index", 0) for device in devices}
    if len(slices) == 1:
        return jax.make_mesh(shape, names, axis_types=types, devices=devices)
    # Slices of TPUs and nodes of GPUs follow each other on `data`: what is gathered layer by layer
    # stays inside one.
    check(
        shape[0] % len(slices) == 0,
        f"mesh: got data={shape[0]} for devices in {len(slices)} slices or nodes, expected a "
        "multiple of these; let fsdp x tensor divide the devices of one.",
    )
    order = sorted(devices, key=lambda device: (device.slice_index, device.id))
    return Mesh(np.array(order).reshape(shape), names, axis_types=types)


def param_shardings(tree: PyTree, mesh: Mesh | AbstractMesh) -> PyTree:
    """The shardings of a tree of parameters, or of a whole training state.

    Leaves are arrays or `jax.ShapeDtypeStruct`s. Raises ValueError, naming path, shape and mesh,
    for one that no rule matches and for a dimension that its axes do not divide.
    """

    def sharding(path, leaf):
        name = path_name(path)
        return NamedSharding(mesh, _param_spec(name, leaf, mesh))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def constrain_params(tree: PyTree, stack: str = "") -> PyTree:
    """A tree of parameters, or gradients of them, split as the rules say; needs no mesh.

    With `stack`, one layer's, taken from the stack of layers of that name and split as the stack
    is: their gradients are then summed over devices straight into the shares that devices keep,
    instead of whole.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return tree

    def constrained(path, leaf):
        if not stack:
            return jax.lax.with_sharding_constraint(leaf, _param_spec(path_name(path), leaf, mesh))
        whole = jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype)
        spec = _param_spec(f"{stack}/{path_name(path)}", whole, mesh)
        return jax.lax.with_sharding_constraint(leaf, PartitionSpec(*spec[1:]))

    return jax.tree_util.tree_map_with_path(constrained, tree)


@dataclass(frozen=True)
class BatchLayout:
    """Where the rows of global batches lie, and which of them this process reads.

    Rows are split over `BATCH` where these axes divide them, and otherwise on every device.
    """

    mesh: Mesh | AbstractMesh

    def rows(self, size: int) -> np.ndarray:
        """The rows of a batch of `size` that devices of this process hold, ascending."""
        held = self._sharding(size).addressable_devices_indices_map((size,)).values()
        return np.unique([np.arange(size)[index] for index in held])

    def place(self, rows: dict[str, HostArray], size: int) -> dict[str, jax.Array]:
        """The global batch of `size`, every process giving its `rows`."""
        sharding = self._sharding(size)
        return {
            name: jax.make_array_from_process_local_data(sharding, array, (size, *array.shape[1:]))
            for name, array in rows.items()
        }

    def check_batch(self, size: int, parts: int) -> None:
        """Raises ValueError unless a training batch in so many parts divides among devices."""
        devices = devices_along(BATCH, self.mesh)
        check(
            size % (parts * devices) == 0,
            f"batch_size: got {size}, expected a multiple of {parts * devices}: data="
            f"{self.mesh.shape['data']} x fsdp={self.mesh.shape['fsdp']} devices, each of which "
            f"takes its share of {parts} part(s); change batch_size, mesh or accumulate.",
        )

    def _sharding(self, size: int) -> NamedSharding:
        axes = BATCH if size % devices_along(BATCH, self.mesh) == 0 else None
        return NamedSharding(self.mesh, PartitionSpec(axes))


def _param_spec(path: str, leaf: PyTree, mesh: Mesh | AbstractMesh) -> PartitionSpec:
    if leaf.ndim == 0 or not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return PartitionSpec()  # rates and counts
    found = [axes for rule, axes in RULES if re.search(rf"(^|/)({rule})$", path)]
    where = f"{path} of shape {leaf.shape} on the mesh {describe_mesh(mesh)}"
    check(bool(found), f"sharding: no rule for {where}; add one to mvar_jax.mesh.sharding.RULES.")
    for names, size in zip(found[0], leaf.shape):
        parts = devices_along(names, mesh)
        check(
            size % parts == 0,
            f"sharding: cannot split {size} into {parts} ({names}) in {where}; change the mesh "
            "or the size.",
        )
    return PartitionSpec(*found[0])
