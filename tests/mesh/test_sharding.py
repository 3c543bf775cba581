"""The mesh and where rows lie; what eight devices compute is in training/on_meshes."""

from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from mvar_jax.config import MeshConfig
from mvar_jax.mesh.axes import ACTIVATIONS, batch_axes, constrain
from mvar_jax.mesh.sharding import BatchLayout, make_mesh

AXES = ("data", "fsdp", "tensor")
POD = AbstractMesh((2, 8, 4), AXES)


def test_mesh_takes_all_devices():
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    assert dict(mesh.shape) == {"data": 1, "fsdp": 1, "tensor": 1}
    for config in (MeshConfig(data=2), MeshConfig(fsdp=3), MeshConfig(data=-1, tensor=2)):
        with pytest.raises(ValueError, match="does not make 1 devices; choose sizes whose product"):
            make_mesh(config, jax.devices()[:1])


@pytest.mark.parametrize(
    "sizes, word",
    [
        ({"fsdp": 0}, "mesh.fsdp: got 0"),
        ({"tensor": -1}, "-1 for data and tensor, expected it once"),
        ({"max_fsdp": 0}, "mesh.max_fsdp: got 0"),
    ],
)
def test_mesh_config_is_checked(sizes, word):
    with pytest.raises(ValueError, match=word):
        MeshConfig(**sizes)


def test_without_a_mesh_nothing_is_constrained():
    x = jnp.ones((2, 3, 4))
    assert all(
        constrain(jnp.ones((2,) * len(ACTIVATIONS[name])), name) is not None for name in ACTIVATIONS
    )
    assert constrain(x, "activation") is x
    assert batch_axes(8) == ()


def test_a_batch_must_divide_among_devices_and_parts():
    layout = BatchLayout(POD)
    layout.check_batch(32, 2)
    with pytest.raises(ValueError, match="batch_size: got 24, expected a multiple of 32: data=2 x"):
        layout.check_batch(24, 2)


def test_one_process_reads_and_places_all_rows():
    layout = BatchLayout(make_mesh(MeshConfig(), jax.devices()[:1]))
    assert layout.rows(5).tolist() == [0, 1, 2, 3, 4]
    rows = {"image": np.arange(10.0).reshape(5, 2), "label": np.arange(5)}
    placed = layout.place(rows, 5)
    for name, array in rows.items():
        np.testing.assert_array_equal(placed[name], array)


def device(number, each):
    """What stands for a device of a slice of TPUs, or of a node of GPUs."""
    place = {"slice_index": number // each, "process_index": number // each}
    return Mock(spec=jax.Device, id=number, platform="gpu", device_kind="fake", **place)


@pytest.mark.parametrize(
    "count, each, config, expected",
    [
        (256, 256, MeshConfig(-1, -1), (2, 128, 1)),
        (64, 64, MeshConfig(-1, -1), (1, 64, 1)),
        (256, 256, MeshConfig(-1, -1, max_fsdp=16), (16, 16, 1)),
        (96, 96, MeshConfig(-1, -1, tensor=2, max_fsdp=32), (3, 16, 2)),
        (192, 192, MeshConfig(-1, -1), (3, 64, 1)),
        (1, 1, MeshConfig(-1, -1), (1, 1, 1)),
        (3, 3, MeshConfig(-1, -1), (3, 1, 1)),
        (32, 16, MeshConfig(-1, -1), (2, 16, 1)),
    ],
)
def test_fsdp_takes_up_to_so_many_devices_of_a_slice(count, each, config, expected):
    devices = [device(number, each) for number in range(count)]
    assert tuple(make_mesh(config, devices).shape.values()) == expected


@pytest.mark.parametrize(
    "kind, torus, config, expected",
    [
        ("TPU v4", (4, 4, 4), MeshConfig(-1, -1, max_fsdp=32), (2, 32, 1)),
        ("TPU v6 lite", (16, 16, 1), MeshConfig(-1, -1), (2, 128, 1)),
        ("TPU v5 lite", (16, 16, 1), MeshConfig(-1, -1), (2, 128, 1)),
    ],
)
def test_any_shape_is_laid_out_on_a_torus(kind, torus, config, expected):
    devices = [
        Mock(
            spec=jax.Device,
            **{"id": number, "platform": "tpu", "device_kind": kind, "process_index": 0},
            **{"coords": place, "core_on_chip": 0, "slice_index": 0},
        )
        for number, place in enumerate(np.ndindex(torus))
    ]
    mesh = make_mesh(config, devices)
    assert tuple(mesh.shape.values()) == expected
    assert {d.id for d in mesh.devices.flat} == set(range(len(devices)))


def test_a_tensor_axis_over_several_nodes_is_named():
    devices = [device(number, 2) for number in range(16)]
    with pytest.raises(ValueError, match="let fsdp x tensor divide the devices of one"):
        make_mesh(MeshConfig(-1, -1, tensor=4), devices)


def test_slices_follow_each_other_on_the_data_axis():
    devices = [device(number, 4) for number in (5, 0, 3, 7, 1, 6, 2, 4)]
    mesh = make_mesh(MeshConfig(data=-1, fsdp=4), devices)
    assert mesh.shape == {"data": 2, "fsdp": 4, "tensor": 1}
    assert [[d.id for d in row] for row in mesh.devices[:, :, 0]] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(ValueError, match="data=1 for devices in 2 slices or nodes"):
        make_mesh(MeshConfig(data=1, fsdp=-1), devices)
