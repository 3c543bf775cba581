"""Peak signal-to-noise ratio."""

import jax.numpy as jnp
import numpy as np

from mvar_jax.ops.fidelity import psnr


def test_values_by_hand():
    images = jnp.stack([jnp.ones((4, 4, 3)), jnp.zeros((4, 4, 3))])
    others = jnp.stack([-jnp.ones((4, 4, 3)), jnp.full((4, 4, 3), 0.2)])
    np.testing.assert_allclose(psnr(images, others), [0.0, 20.0], atol=1e-5)


def test_equal_images():
    images = jnp.ones((1, 2, 2, 1))
    assert np.isposinf(psnr(images, images)).all()
