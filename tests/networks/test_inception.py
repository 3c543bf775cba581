"""The resize of TensorFlow 1, and the official names; `tests/test_conformance.py` has the rest."""

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.convert.inception_names import inception_entries
from mvar_jax.networks import inception
from tests.convert.manifests import network_manifest


def params_like():
    """Shapes of the parameters after norms are folded."""
    tree: dict = {}
    for entry in inception_entries():
        if entry.path[-1] == "kernel":
            node = tree
            for name in entry.path[:-1]:
                node = node.setdefault(name, {})
            node["kernel"] = jax.ShapeDtypeStruct(entry.shape, jnp.float32)
            node["bias"] = jax.ShapeDtypeStruct(entry.shape[-1:], jnp.float32)
    return tree


def test_every_official_tensor_has_one_place():
    manifest = network_manifest("inception")
    assert {e.official: e.official_shape for e in inception_entries()} == manifest
    assert len({entry.path for entry in inception_entries()}) == len(manifest) == 472


def test_sizes_of_what_it_returns():
    images = jax.ShapeDtypeStruct((2, 40, 30, 3), jnp.uint8)
    found = jax.eval_shape(inception.inception_features, params_like(), images)
    assert found.pool.shape == (2, inception.FEATURES)
    assert found.spatial.shape == (2, inception.SPATIAL_FEATURES)
    assert found.logits.shape == (2, inception.CLASSES)


def test_images_of_the_networks_size_are_not_resampled():
    images = np.random.default_rng(0).integers(0, 256, (1, 299, 299, 3), np.uint8)
    np.testing.assert_array_equal(
        inception.prepare(jnp.asarray(images)), (np.float32(images) - 128) / 128
    )


def test_the_first_pixels_coincide_and_the_last_are_repeated():
    ramp = np.arange(100, dtype=np.uint8)[None, None, :, None].repeat(2, 1).repeat(3, 3)
    row = np.asarray(inception.prepare(jnp.asarray(ramp)))[0, 0, :, 0] * 128 + 128
    assert row[0] == 0 and row[-1] == 99
    np.testing.assert_allclose(row[:290], np.arange(290) * 100 / 299, atol=1e-4)
