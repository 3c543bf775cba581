"""Kernels held layer by layer: where they lie, and that a trunk draws the same with them."""

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.config import MeshConfig
from mvar_jax.evaluation.made_up import made_up_profile
from mvar_jax.mesh.sharding import make_mesh
from mvar_jax.models.checksum import checksum
from mvar_jax.models.layer_kernels import (
    ChosenKernel,
    LayerKernels,
    apply_kernel,
    kernels_by_layer,
    with_kernels,
)
from mvar_jax.sampling import request
from tests.sampling.kinds import KINDS, asked_of, assert_same, model_of
from tests.sampling.test_model import tiny_model
from tests.shared import eight_devices


@contextmanager
def stacked():
    """Programs take kernels from their stacks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request, "kernels_by_layer", lambda trunk: None)
        yield


def changed(model, **changes):
    """The same model, whose trunk runs by other settings."""
    trunk = model.trunk.clone(config=replace(model.trunk.config, **changes))
    return replace(model, sampler=replace(model.sampler, trunk=trunk))


def check_draws_the_same(model, asked=(0, 1)):
    """By kernels of layers and from their stack."""
    assert jax.tree.leaves(model.weights.with_kernels().kernels)
    with stacked():
        assert model.weights.with_kernels().kernels is None
        expected = model.sample(asked, seed=1)
    got = model.sample(asked, seed=1)
    assert_same(got.tokens, expected.tokens)
    np.testing.assert_allclose(got.images, expected.images, atol=1e-5)
    return got


def test_layers_are_views_of_their_stack():
    """Without a copy of any, and a product chooses among them."""
    stack = jnp.arange(4 * 8 * 16.0).reshape(4, 8, 16)
    trunk = {"blocks_0": {"ffn": {"up": {"kernel": stack, "bias": stack[:, 0]}}}}
    found = kernels_by_layer(trunk)
    kernels = found["blocks_0"]["ffn"]["up"].pop("kernel")
    assert isinstance(kernels, LayerKernels) and found == {"blocks_0": {"ffn": {"up": {}}}}
    start = stack.unsafe_buffer_pointer()
    for i, layer in enumerate(kernels.layers):
        assert layer.unsafe_buffer_pointer() == start + i * layer.nbytes
        np.testing.assert_array_equal(layer, stack[i])
    assert kernels[2] is kernels.layers[2]

    @jax.jit
    def product(x, kernels, index):
        assert isinstance(kernels[index], ChosenKernel) and kernels[index].shape == (8, 16)
        return apply_kernel(lambda x, kernel: x @ kernel, x, kernels[index])

    x = jnp.ones((3, 8))
    for i in range(4):
        np.testing.assert_array_equal(product(x, kernels, i), x @ stack[i])
    again = with_kernels({"ffn": {"up": {"kernel": stack, "bias": 1}}}, {"ffn": {"up": {}}})
    assert again == {"ffn": {"up": {"kernel": stack, "bias": 1}}}


def test_what_gains_nothing_stays_stacked():
    one, odd = jnp.ones((1, 8, 16)), jnp.ones((3, 5, 3))  # one layer; layers that lie anyhow
    for stack in (one, odd, np.ones((4, 8, 16)), jax.ShapeDtypeStruct((4, 8, 16), jnp.float32)):
        assert kernels_by_layer({"blocks_0": {"ffn": {"up": {"kernel": stack}}}}) is None
    modulation = {"kernel": jnp.ones((4, 8, 6, 8)), "bias": jnp.ones((4, 6, 8))}
    assert kernels_by_layer({"blocks_0": {"modulation": modulation}}) is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_is_drawn(kind):
    model, asked = model_of(kind), asked_of(kind)
    check_draws_the_same(model, asked)
    with stacked():
        expected = list(model.stream(asked, seed=1))
    for got, step in zip(model.stream(asked, seed=1), expected, strict=True):
        assert_same(got.tokens, step.tokens)
        np.testing.assert_allclose(got.images, step.images, atol=1e-5)


@pytest.mark.parametrize("changes", [{"scan": False}, {"remat": "full"}])
def test_the_loop_over_layers_may_run_otherwise(changes):
    check_draws_the_same(changed(model_of("M-VAR"), **changes))


def test_kernels_follow_the_heads_of_a_policy():
    """Layers with other numbers of tokens run in loops of their own, with heads reordered."""
    model = tiny_model(("history",), depth=3)
    profile = made_up_profile(model.sampler.scales, model.trunk.attention_shape)
    profile = replace(profile, checksum=checksum(model.weights.trunk))
    reordered = model.compressed("hack", ratio=0.5, profile=profile)
    same = jax.tree.map(np.array_equal, model.weights.trunk, reordered.weights.trunk)
    assert not all(jax.tree.leaves(same))
    check_draws_the_same(reordered)


def test_kernels_are_those_of_the_trunk_that_draws():
    """Of a trunk that took another's place, and of a draft."""
    model = model_of("VAR")
    halved = jax.tree.map(lambda leaf: leaf / 2, model.weights.trunk)
    other = replace(model, weights=replace(model.weights, trunk=halved))
    one, two = check_draws_the_same(model), check_draws_the_same(other)
    assert np.any(one.images != two.images)
    check_draws_the_same(model.drafted(other, scales=2))


def test_under_a_mesh_of_one_device():
    with jax.set_mesh(make_mesh(MeshConfig())):
        assert jax.device_count() == 1
        check_draws_the_same(model_of("VAR"))


SPREAD = """
import jax
from jax.sharding import NamedSharding, PartitionSpec
from mvar_jax.models.checksum import checksum
from mvar_jax.models.layer_kernels import kernels_by_layer
mesh = jax.make_mesh((8,), ("data",))
stack = jax.device_put(jax.numpy.ones((4, 8, 16)), NamedSharding(mesh, PartitionSpec()))
assert kernels_by_layer({"blocks_0": {"ffn": {"up": {"kernel": stack}}}}) is None
alone = {"blocks_0": {"ffn": {"up": {"kernel": jax.numpy.ones((4, 8, 16))}}}}
assert kernels_by_layer(alone)
with jax.set_mesh(mesh):
    assert kernels_by_layer(alone) is None
print("stacked on", jax.device_count())
"""


def test_on_several_devices_they_stay_stacked(pytestconfig):
    command = [sys.executable, "-c", SPREAD]
    result = subprocess.run(
        command, cwd=pytestconfig.rootpath, env=eight_devices(), capture_output=True, text=True
    )
    assert result.stdout.strip() == "stacked on 8", result.stderr[-2000:]
