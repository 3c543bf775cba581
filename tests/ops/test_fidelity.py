"""Measures of how close images are."""

import jax.numpy as jnp
import numpy as np

from mvar_jax.ops.fidelity import psnr, ssim


def test_values_by_hand():
    images = jnp.stack([jnp.ones((4, 4, 3)), jnp.zeros((4, 4, 3))])
    others = jnp.stack([-jnp.ones((4, 4, 3)), jnp.full((4, 4, 3), 0.2)])
    np.testing.assert_allclose(psnr(images, others), [0.0, 20.0], atol=1e-5)


def test_equal_images():
    images = jnp.ones((1, 2, 2, 1))
    assert np.isposinf(psnr(images, images)).all()


def test_structural_similarity_of_flat_images_compares_their_means():
    images, others = jnp.full((2, 12, 20, 3), 0.5), jnp.full((2, 12, 20, 3), 0.25)
    low = (0.01 * 2) ** 2
    expected = (2 * 0.5 * 0.25 + low) / (0.5**2 + 0.25**2 + low)
    np.testing.assert_allclose(ssim(images, others), [expected] * 2, rtol=1e-5)
    small = jnp.full((1, 4, 5, 1), 0.5)
    np.testing.assert_allclose(ssim(small, small), [1.0], rtol=1e-5)


def test_structural_similarity_of_one_window():
    """With a window as large as the image, the formula on weighted moments."""
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 11, 11))
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights = np.outer(window, window) / window.sum() ** 2
    mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
    variance_x, variance_y = ((weights * (a - m) ** 2).sum() for a, m in ((x, mean_x), (y, mean_y)))
    covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
    low, high = 0.0004, 0.0036
    expected = (2 * mean_x * mean_y + low) * (2 * covariance + high)
    expected /= (mean_x**2 + mean_y**2 + low) * (variance_x + variance_y + high)
    maps = (jnp.float32(a)[None, :, :, None] for a in (x, y))
    np.testing.assert_allclose(ssim(*maps), [expected], rtol=1e-4)
