"""Kernels held layer by layer: where they lie, and that a trunk draws the same with them."""

import subprocess
import sys
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
from tests.sampling.kinds import KINDS, asked_of, assert_same, model_of
from tests.sampling.test_model import tiny_model
from tests.shared import eight_devices


def by_layer(model):
    held = replace(model, weights=model.weights.with_kernels())
    assert jax.tree.leaves(held.weights.kernels)
    return held


def changed(model, **changes):
    """The same model, whose trunk runs by other settings."""
    trunk = model.trunk.clone(config=replace(model.trunk.config, **changes))
    return replace(model, sampler=replace(model.sampler, trunk=trunk))


def check_draws_the_same(model, other, asked=(0, 1)):
    expected, got = model.sample(asked, seed=1), other.sample(asked, seed=1)
    assert_same(got.tokens, expected.tokens)
    np.testing.assert_allclose(got.images, expected.images, atol=1e-5)


def test_layers_are_views_of_their_stack():
    """The branches of a float32 sum over the kernel of one layer, without a copy of any."""
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
    model = model_of(kind)
    held, asked = by_layer(model), asked_of(kind)
    check_draws_the_same(model, held, asked)
    grown = zip(held.stream(asked, seed=1), model.stream(asked, seed=1), strict=True)
    for got, expected in grown:
        assert_same(got.tokens, expected.tokens)
        np.testing.assert_allclose(got.images, expected.images, atol=1e-5)


@pytest.mark.parametrize("changes", [{"scan": False}, {"remat": "full"}])
def test_the_loop_over_layers_may_run_otherwise(changes):
    model = model_of("M-VAR")
    check_draws_the_same(model, changed(by_layer(model), **changes))


def test_kernels_follow_the_heads_of_a_policy():
    """Layers with other numbers of tokens run in loops of their own, with heads reordered."""
    model = tiny_model(("history",), depth=3)
    profile = made_up_profile(model.sampler.scales, model.trunk.attention_shape)
    profile = replace(profile, checksum=checksum(model.weights.trunk))
    reordered = model.compressed("hack", ratio=0.5, profile=profile)
    before, after = by_layer(model).weights.kernels, reordered.weights.kernels
    assert any(jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, after)))
    plain = replace(reordered, weights=replace(reordered.weights, kernels=None))
    check_draws_the_same(plain, reordered)


def test_under_a_mesh_of_one_device():
    model = by_layer(model_of("VAR"))
    with jax.set_mesh(make_mesh(MeshConfig())):
        assert jax.device_count() == 1
        check_draws_the_same(model_of("VAR"), model)


SPREAD = """
import jax
from jax.sharding import NamedSharding, PartitionSpec
from mvar_jax.models.checksum import checksum
from mvar_jax.models.layer_kernels import kernels_by_layer
mesh = jax.make_mesh((8,), ("data",))
stack = jax.device_put(jax.numpy.ones((4, 8, 16)), NamedSharding(mesh, PartitionSpec()))
assert kernels_by_layer({"blocks_0": {"ffn": {"up": {"kernel": stack}}}}) is None
print("stacked on", jax.device_count())
"""


def test_on_several_devices_they_stay_stacked(pytestconfig):
    command = [sys.executable, "-c", SPREAD]
    result = subprocess.run(
        command, cwd=pytestconfig.rootpath, env=eight_devices(), capture_output=True, text=True
    )
    assert result.stdout.strip() == "stacked on 8", result.stderr[-2000:]
