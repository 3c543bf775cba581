import numpy as np
import pytest

from mvar_jax.evaluation.gradient_histograms import CELLS, ORIENTATIONS, gradient_histograms


def wave(angle, side=64, other_side=None):
    """Bars whose gradient runs at an angle (0 is to the right, down is positive)."""
    y, x = np.meshgrid(np.arange(other_side or side) / side, np.arange(side) / side, indexing="ij")
    grey = np.sin(20 * (np.cos(angle) * x + np.sin(angle) * y))
    return np.repeat(grey[None, ..., None], 3, axis=-1).astype(np.float32)


def strength(image):
    """How much gradient there is along every orientation, over all cells."""
    cells = gradient_histograms(image).reshape(CELLS * CELLS, ORIENTATIONS)
    return (cells**2).sum(axis=0)


@pytest.mark.parametrize("bin", range(ORIENTATIONS))
def test_the_orientation_of_bars_is_found(bin):
    assert strength(wave(bin * np.pi / ORIENTATIONS)).argmax() == bin


def test_colour_contrast_and_polarity_do_not_count():
    image = wave(0.4)
    expected = gradient_histograms(image)
    assert np.mean(expected**2) == pytest.approx(1, abs=1e-4)
    red = image * np.array([1, 0.2, 0], np.float32)
    for same in (0.3 * image, -image, red):
        np.testing.assert_allclose(gradient_histograms(same), expected, atol=2e-3)


def test_edges_are_counted_where_they_are():
    image = np.full((1, 64, 64, 3), -1.0, np.float32)
    image[:, 8:16, 40:48] = 1
    cells = gradient_histograms(image).reshape(CELLS, CELLS, ORIENTATIONS).sum(axis=-1)
    down, right = np.unravel_index(cells.argmax(), cells.shape)
    assert (down, right) == (1, 5) and cells[4:].max() < 0.05 * cells.max()


def test_resolution_counts_little():
    fine = wave(1.0, side=256)
    coarse = fine.reshape(1, 64, 4, 64, 4, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(gradient_histograms(fine), gradient_histograms(coarse), atol=0.15)


def test_flat_and_oblong_images_have_finite_histograms():
    for image in (np.zeros((2, 64, 64, 3), np.float32), wave(0.3, side=80, other_side=40)):
        histograms = gradient_histograms(image)
        assert histograms.shape == (len(image), CELLS * CELLS * ORIENTATIONS)
        assert np.isfinite(histograms).all() and histograms.dtype == np.float32
