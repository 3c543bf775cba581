"""A picture of any size is edited at the model's, and what is black in the mask stays exactly."""

import numpy as np
import pytest
from PIL import Image

from mvar_jax.pictures.canvas import Canvas


@pytest.fixture
def files(tmp_path):
    """An image of 40 x 20 pixels, and a mask whose right half is white."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    white = np.where(np.arange(40) < 20, 0, 255) * np.ones((20, 1))
    Image.fromarray(white.astype(np.uint8)).save(tmp_path / "mask.png")
    return tmp_path / "in.png", tmp_path / "mask.png"


def test_a_picture_of_the_models_size_is_taken_as_it_is(files):
    canvas = Canvas.read(*files)
    images, masks = canvas.fitted((20, 40))
    np.testing.assert_array_equal(np.round((images[0] + 1) * 127.5), canvas.pixels)
    np.testing.assert_array_equal(masks[0, 0], np.arange(40) >= 20)
    assert not canvas.said and not canvas.describe_fit((20, 40))


@pytest.mark.parametrize("size", [(20, 40), (8, 8), (64, 64)])
def test_kept_pixels_are_exact_at_the_pictures_own_size(files, size):
    canvas = Canvas.read(*files)
    drawn = np.full((*size, 3), 0.5, np.float32)
    pasted = np.asarray(canvas.finished(drawn, paste=True, feather=2))
    np.testing.assert_array_equal(pasted[:, :20], canvas.pixels[:, :20])
    assert np.all(pasted[:, -5:] == 191)
    free = np.asarray(canvas.finished(drawn, paste=False, feather=2))
    assert free.shape == (20, 40, 3) and np.all(free == 191)


def test_what_is_resized_is_said(files):
    canvas = Canvas.read(*files)
    assert canvas.describe_fit((10, 20)) == (
        "The image has 40 x 20 pixels: it is edited at 20 x 10 and what is drawn is resized to it."
    )
    assert "20 x 20, its proportions changed, and" in canvas.describe_fit((20, 20))
    image, mask = files
    Image.new("L", (4, 2), 255).save(mask)
    larger = Canvas.read(image, mask)
    assert larger.said == f"{mask}: 4 x 2 pixels, resized to the 40 x 20 of {image}."
    assert np.all(larger.mask == 1) and np.all(Canvas.read(image).mask == 1)


def test_a_mask_is_averaged_over_pixels(files):
    masks = Canvas.read(*files).fitted((5, 5))[1]
    np.testing.assert_allclose(masks[0], np.tile([0, 0, 0.5, 1, 1], (5, 1)), atol=1e-6)


def test_what_is_no_image_is_named(files, tmp_path):
    image, mask = files
    mask.write_bytes(b"no image at all")
    with pytest.raises(ValueError, match=f"{mask}: cannot be read .no image in one of"):
        Canvas.read(image, mask)
    mask.write_bytes(b"")
    with pytest.raises(ValueError, match="has 0 bytes"):
        Canvas.read(image, mask)
    with pytest.raises(OSError):
        Canvas.read(tmp_path / "other.png")
    with pytest.raises(ValueError, match="is no file"):
        Canvas.read(tmp_path)
