"""The mesh of a config, and which devices hold which rows of a batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from mvar_jax.array_types import HostArray
from mvar_jax.checks import check
from mvar_jax.config import MeshConfig
from mvar_jax.mesh.axes import BATCH, devices_along


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of a config over all devices of all processes, or over `devices`.

    Raises ValueError unless the product of the axes is the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    slices = {getattr(device, "slice_index", 0) for device in devices}
    shape = _shape(config, len(devices), len(slices))
    check(
        math.prod(shape) == len(devices),
        f"mesh: data={config.data} x fsdp={config.fsdp} x tensor={config.tensor} does not make "
        f"{len(devices)} devices; choose sizes whose product is {len(devices)}, or -1 for the "
        "rest on one axis, or on data and fsdp.",
    )
    names, types = ("data", "fsdp", "tensor"), (AxisType.Auto,) * 3
    if len(slices) == 1:
        # Splitting an axis of the torus lets any shape be laid out, such as 2 x 32 on 4x4x4 chips.
        laid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
        return Mesh(laid, names, axis_types=types)
    # TPU slices and GPU nodes are consecutive along `data`, so that what is gathered layer by layer
    # stays inside one.
    check(
        shape[0] % len(slices) == 0,
        f"mesh: got data={shape[0]} for devices in {len(slices)} slices or nodes, expected a "
        "multiple of these; let fsdp x tensor divide the devices of one.",
    )
    order = sorted(devices, key=lambda device: (device.slice_index, device.id))
    return Mesh(np.array(order).reshape(shape), names, axis_types=types)


def host_devices() -> list[jax.Device]:
    """The host as JAX's device, or the first one where JAX was told to leave the host out."""
    try:
        return jax.local_devices(backend="cpu")[:1]
    except RuntimeError:  # JAX_PLATFORMS names others only
        return jax.local_devices()[:1]


def _shape(config: MeshConfig, devices: int, slices: int) -> tuple[int, int, int]:
    """The sizes of the axes, of which those of -1 take what the others leave."""
    sizes = (config.data, config.fsdp, config.tensor)
    rest = devices // math.prod(size for size in sizes if size != -1)
    if config.data == config.fsdp == -1:
        fsdp = math.gcd(max(rest // slices, 1), config.max_fsdp)
        return rest // fsdp, fsdp, config.tensor
    data, fsdp, tensor = (rest if size == -1 else size for size in sizes)
    return data, fsdp, tensor


@dataclass(frozen=True)
class BatchLayout:
    """The sharding of global batches, and the rows that this process reads.

    Rows are split over `BATCH` if these axes divide them, and otherwise replicated.
    """

    mesh: Mesh | AbstractMesh

    def rows(self, size: int) -> np.ndarray:
        """The rows of a batch of `size` that devices of this process hold, ascending."""
        held = self._sharding(size).addressable_devices_indices_map((size,)).values()
        return np.unique([np.arange(size)[index] for index in held])

    def place(self, rows: dict[str, HostArray], size: int) -> dict[str, jax.Array]:
        """The global batch of `size` rows; every process passes its own `rows`."""
        sharding = self._sharding(size)
        return {
            name: jax.make_array_from_process_local_data(sharding, array, (size, *array.shape[1:]))
            for name, array in rows.items()
        }

    def check_batch(self, size: int, parts: int) -> None:
        """Raises ValueError unless the devices divide each of the `parts` of a training batch."""
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
