"""The mesh, the rules and where rows lie; what eight devices compute is in training/on_meshes."""

import re
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from mvar_jax.array_types import path_name
from mvar_jax.config import Config, MeshConfig
from mvar_jax.config.recipes import imagenet256
from mvar_jax.config.tree import from_config_dict
from mvar_jax.mesh.axes import ACTIVATIONS, batch_axes, constrain
from mvar_jax.mesh.sharding import RULES, BatchLayout, constrain_params, make_mesh, param_shardings
from mvar_jax.models import build_trunk, example_inputs
from mvar_jax.tokenizers import VQTokenizer
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.state import create_state

AXES = ("data", "fsdp", "tensor")
POD = AbstractMesh((2, 8, 4), AXES)
LARGE = 2**20  # numbers


def config_of(pattern, **changes):
    config = imagenet256("d16", pattern, (16,))
    # Few layers and large matrices.
    config.model.update(depth=2, **changes)
    return from_config_dict(config)


def trunk_shapes(config):
    trunk = build_trunk(config)
    return jax.eval_shape(trunk.init, jax.random.key(0), *example_inputs(trunk))["params"]


def tokenizer_shapes():
    images = jnp.zeros((1, 256, 256, 3))
    return jax.eval_shape(VQTokenizer(Config().tokenizer).init, jax.random.key(0), images)["params"]


def specs(tree, mesh=POD):
    """Path to (shape, spec filled up with None) of every array."""
    shardings = jax.tree.leaves(param_shardings(tree, mesh))
    found = {}
    for (path, leaf), sharding in zip(jax.tree_util.tree_leaves_with_path(tree), shardings):
        name = path_name(path)
        found[name] = leaf.shape, (*sharding.spec, *(None,) * (leaf.ndim - len(sharding.spec)))
    return found


@pytest.mark.parametrize(
    "pattern, changes",
    [
        (("scale+ssm",), {}),
        (("scale+ssm", "history"), {}),
        (("history",), {"shared_modulation": True}),
    ],
    ids=["mvar", "mixed", "shared"],
)
def test_large_parameters_are_split_and_layers_are_not(pattern, changes):
    found = specs(trunk_shapes(config_of(pattern, **changes)))
    for name, (shape, spec) in found.items():
        assert not name.startswith("blocks_") or spec[0] is None, name
        rest = np.prod(shape[1:]) if name.startswith("blocks_") else np.prod(shape)
        assert rest < LARGE or "fsdp" in str(spec), (name, shape)
    modulation = [spec for name, (_, spec) in found.items() if "modulation/kernel" in name]
    assert modulation and all(spec[-1] == ("fsdp", "tensor") for spec in modulation)


def test_every_rule_is_of_some_parameter():
    names = [*specs(tokenizer_shapes())]
    for pattern, changes in ((("scale+ssm",), {}), (("history",), {"shared_modulation": True})):
        names += [*specs(trunk_shapes(config_of(pattern, **changes)))]
    for rule, _ in RULES:
        assert any(re.search(rf"(^|/)({rule})$", name) for name in names), rule


def test_optimizer_and_average_lie_as_their_parameter():
    config = Config()
    params = {"blocks_0": {"attention": {"qkv": jnp.zeros((2, 8, 3, 4, 2))}, "ffn": {}}}
    optimizer = make_optimizer(config.optimizer, 10, 8)
    state = jax.eval_shape(lambda: create_state(params, optimizer, 0.9))
    found = specs(state)
    split = [spec for shape, spec in found.values() if shape == (2, 8, 3, 4, 2)]
    assert len(split) == 4  # itself, two moments, the average
    assert set(split) == {(None, "fsdp", None, "tensor", None)}
    assert all(set(spec) <= {None} for shape, spec in found.values() if len(shape) < 2)


def test_a_parameter_without_a_rule_is_named():
    with pytest.raises(
        ValueError, match=r"no rule for blocks_0/new of shape \(2, 3\) on the mesh d"
    ):
        param_shardings({"blocks_0": {"new": jnp.zeros((2, 3))}}, POD)


def test_a_dimension_that_does_not_divide_is_named():
    tree = {"params": {"head": {"kernel": jax.ShapeDtypeStruct((12, 64), jnp.float32)}}}
    expected = r"split 12 into 8 \(fsdp\) in params/head/kernel of shape \(12, 64\) .*fsdp=8"
    with pytest.raises(ValueError, match=expected):
        param_shardings(tree, POD)


def test_mesh_takes_the_devices_that_there_are():
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    assert dict(mesh.shape) == {"data": 1, "fsdp": 1, "tensor": 1}
    for config in (MeshConfig(data=2), MeshConfig(fsdp=3), MeshConfig(data=-1, tensor=2)):
        with pytest.raises(ValueError, match="does not make 1 devices; choose sizes whose product"):
            make_mesh(config, jax.devices()[:1])


@pytest.mark.parametrize(
    "sizes, word", [({"fsdp": 0}, "mesh.fsdp: got 0"), ({"fsdp": -1}, "-1 for data and fsdp")]
)
def test_mesh_config_is_checked(sizes, word):
    with pytest.raises(ValueError, match=word):
        MeshConfig(**sizes)


def test_without_a_mesh_nothing_is_constrained():
    x, tree = jnp.ones((2, 3, 4)), {"nothing": jnp.ones(3)}
    assert all(
        constrain(jnp.ones((2,) * len(ACTIVATIONS[name])), name) is not None for name in ACTIVATIONS
    )
    assert constrain(x, "activation") is x and constrain_params(tree) is tree
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


def test_slices_follow_each_other_on_the_data_axis():
    devices = [device(number, 4) for number in (5, 0, 3, 7, 1, 6, 2, 4)]
    mesh = make_mesh(MeshConfig(data=-1, fsdp=4), devices)
    assert mesh.shape == {"data": 2, "fsdp": 4, "tensor": 1}
    assert [[d.id for d in row] for row in mesh.devices[:, :, 0]] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(ValueError, match="data=1 for devices in 2 slices or nodes"):
        make_mesh(MeshConfig(data=1, fsdp=-1), devices)
