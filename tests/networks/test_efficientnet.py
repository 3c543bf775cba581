"""EfficientNet-lite0 finds in photographs what its authors' code finds.

`tests/golden/efficientnet/` holds what the package efficientnet-lite-pytorch computes from
the same weights for ten crops of the two photographs of scikit-learn, scaled by (x - 127) / 128.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from mvar_jax.convert.network_files import load_efficientnet
from mvar_jax.networks import efficientnet
from tests.reference import GOLDEN

CORNERS = ((0, 0), (203, 0), (0, 416), (203, 416), (100, 200))
SIDE = efficientnet.SIDE


@pytest.fixture(scope="module")
def network():
    return load_efficientnet()


@pytest.fixture(scope="module")
def photographs():
    return load_sample_images().images


def test_photographs_are_classified_as_by_the_original(network, photographs):
    crops = [image[y : y + SIDE, x : x + SIDE] for image in photographs for y, x in CORNERS]
    found = jax.jit(network.compute)(network.params, jnp.asarray(np.stack(crops)))
    pool, logits = (np.load(GOLDEN / "efficientnet" / f"lite0_{n}.npy") for n in ("pool", "logits"))
    np.testing.assert_allclose(found.pool, pool, atol=7e-5)  # ten times its own rounding
    np.testing.assert_allclose(found.logits, logits, atol=1e-4)
    top = logits.argmax(axis=1)
    np.testing.assert_array_equal(np.argmax(found.logits, axis=1), top)
    assert len(set(top.tolist())) > 5


def test_a_larger_image_is_averaged_down():
    """Stripes of one pixel are grey from afar; without antialiasing they would not be."""
    stripes = np.zeros((1, 4 * SIDE, 4 * SIDE, 3), np.uint8)
    stripes[:, :, ::2] = 254
    prepared = efficientnet.prepare(jnp.asarray(stripes))
    np.testing.assert_allclose(prepared[:, :, 1:-1], 0, atol=2e-2)
    whole = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    np.testing.assert_array_equal(
        efficientnet.prepare(jnp.asarray(whole)), (np.float32(whole) - 127) / 128
    )
