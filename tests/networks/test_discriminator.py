"""The discriminator: its size, what a logit sees, and that images of a batch stay apart."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.config import TokenizerLossConfig
from mvar_jax.networks.discriminator import Discriminator


def test_the_published_size():
    network = Discriminator(64, 3)
    images = jax.ShapeDtypeStruct((2, 256, 256, 3), jnp.float32)
    logits, variables = jax.eval_shape(partial(network.init_with_output, jax.random.key(0)), images)
    assert logits.shape == (2, 30, 30)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    first, last = 16 * 3 * 64 + 64, 16 * 512 + 1
    norms = sum(16 * inputs * 2 * inputs + 3 * 2 * inputs for inputs in (64, 128, 256))
    assert count == first + norms + last


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_least_side_leaves_one_patch(layers):
    side = TokenizerLossConfig(discriminator_layers=layers).least_side
    network = Discriminator(4, layers)
    for size, patches in ((side, 1), (side - 1, 0)):
        images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        made = jax.eval_shape(partial(network.init_with_output, jax.random.key(0)), images)
        assert made[0].shape == (1, patches, patches)


def test_a_logit_is_of_its_image_and_of_its_patch():
    network, images = Discriminator(4, 1), jnp.zeros((2, 32, 32, 3))
    params = network.init(jax.random.key(0), images)
    images = jax.random.normal(jax.random.key(1), images.shape)

    def slope(row, column):
        return jax.grad(lambda x: network.apply(params, x)[0, row, column])(images)

    # Norms see the whole image: their share is in all pixels, but not in the other image.
    assert float(jnp.abs(slope(7, 7)[1]).max()) == 0
    near = np.abs(slope(7, 7)[0]).sum(axis=2)
    assert near[14, 14] > 0 and near[14:19, 14:19].mean() > 10 * near[:4, :4].mean()
