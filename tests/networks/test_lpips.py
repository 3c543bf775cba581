"""LPIPS where its value is known; `tests/test_conformance.py` compares the rest."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.convert.lpips_names import backbone_entries, head_entries
from mvar_jax.convert.names import read_params
from mvar_jax.networks import lpips
from tests.convert.manifests import network_manifest
from tests.network_weights import network_weights

BACKBONES = {"vgg": (lpips.VGG16, "vgg16"), "alex": (lpips.ALEXNET, "alexnet")}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_official_tensor_has_one_place(name):
    backbone, file = BACKBONES[name]
    convolutions = {entry.official: entry.official_shape for entry in backbone_entries(backbone)}
    official = network_manifest(file)
    assert convolutions == {n: s for n, s in official.items() if not n.startswith("classifier.")}
    heads = {entry.official: entry.official_shape for entry in head_entries(backbone)}
    assert heads == network_manifest(f"lpips_{name}")


@pytest.fixture(scope="module")
def alex():
    entries = [*backbone_entries(lpips.ALEXNET), *head_entries(lpips.ALEXNET)]
    shapes = {entry.official: entry.official_shape for entry in entries}
    return read_params(entries, network_weights(shapes, "alex:"))


def some(seed):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, (2, 48, 40, 3)), jnp.float32)


def test_equal_images_are_at_no_distance_and_have_a_gradient(alex):
    images = some(0)
    distance = jax.jit(lambda x, y: lpips.lpips(lpips.ALEXNET, alex, x, y))
    np.testing.assert_array_equal(distance(images, images), 0)
    black = jnp.zeros_like(images)
    for pair in ((images, images), (images, black), (black, black)):
        slope = jax.grad(lambda x, pair=pair: distance(x, pair[1]).sum())(pair[0])
        assert np.isfinite(slope).all()
    there, back = distance(images, some(1)), distance(some(1), images)
    np.testing.assert_allclose(there, back, rtol=1e-6)
    assert np.all(there > 0) and there.shape == (2, 5)


@pytest.mark.parametrize(("name", "least"), [("vgg", 16), ("alex", 31)])
def test_images_must_leave_a_pixel_after_all_pools(name, least):
    backbone, _ = BACKBONES[name]
    assert backbone.least_side == least
    params = {
        f"conv{one.index}": {
            "kernel": jnp.zeros((one.kernel, one.kernel, one.inputs, one.outputs)),
            "bias": jnp.zeros(one.outputs),
        }
        for depth in backbone.depths
        for one in depth
    }

    def maps(side):
        images = jax.ShapeDtypeStruct((1, side, 40, 3), jnp.float32)
        run = partial(lpips.backbone_maps, backbone, params)
        return jax.eval_shape(lambda x: list(run(x)), images)

    assert [0 in one.shape for one in maps(least)] == 5 * [False]
    assert 0 in maps(least - 1)[-1].shape
    small = jnp.zeros((1, 40, least - 1, 3))
    with pytest.raises(ValueError, match=f"40 x {least - 1} pixels, expected at least {least} x"):
        lpips.lpips(backbone, {}, small, small)


def test_the_gradient_of_a_vector_of_length_zero_is_finite():
    slope = jax.grad(lambda x: lpips.unit_length(x).sum())(jnp.zeros((1, 1, 1, 3)))
    assert np.isfinite(slope).all()
