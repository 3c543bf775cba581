"""Images are read a batch at a time from an .npz or a folder, and bad ones are named."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from mvar_jax.data.image_sets import digest, holds_images, open_images

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), np.uint8)


def folder(path, images=IMAGES):
    for i, image in enumerate(images):
        file = path / f"{i % 2}" / f"{i:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return path


def read(path, size):
    return [batch.copy() for batch in open_images(path).batches(size)]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_array_comes_in_batches(tmp_path, save):
    save(tmp_path / "a.npz", IMAGES, labels=np.arange(7))
    found = open_images(tmp_path / "a.npz")
    assert (found.count, found.size) == (7, (5, 4))
    batches = read(tmp_path / "a.npz", 3)
    assert [len(batch) for batch in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(batches), IMAGES)
    assert found.name(4).endswith("a.npz, image 4")


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path):
    found = open_images(folder(tmp_path))
    assert (found.count, found.size) == (7, (5, 4))
    order = [0, 2, 4, 6, 1, 3, 5]
    np.testing.assert_array_equal(np.concatenate(read(tmp_path, 4)), IMAGES[order])
    assert found.name(4).endswith("1/001.png")


def test_a_digest_changes_with_any_pixel_and_any_name(tmp_path):
    digests = {digest(folder(tmp_path))}
    (tmp_path / "note.txt").write_text("not an image")
    assert digest(tmp_path) in digests
    Image.fromarray(IMAGES[0] ^ 1).save(tmp_path / "0" / "000.png")
    digests.add(digest(tmp_path))
    (tmp_path / "0" / "000.png").rename(tmp_path / "0" / "001.png")
    digests.add(digest(tmp_path))
    np.savez(tmp_path / "a.npz", IMAGES)
    digests.add(digest(tmp_path / "a.npz"))
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": IMAGES}, "holds images, expected images as arr_0"),
        ({}, "holds nothing, expected images"),
        ({"arr_0": IMAGES / 255}, r"arr_0 is float64 \[7, 5, 4, 3\], expected uint8"),
        ({"arr_0": IMAGES[..., :1]}, r"arr_0 is uint8 \[7, 5, 4, 1\], expected uint8"),
        ({"arr_0": IMAGES[:0]}, r"arr_0 is uint8 \[0, 5, 4, 3\]"),
        ({"arr_0": np.asfortranarray(IMAGES)}, "stored by columns"),
    ],
)
def test_other_arrays_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        open_images(tmp_path / "a.npz")


def test_what_is_no_set_of_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no images, expected files named as"):
        open_images(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a.npz: is damaged or no .npz \(File is not a zip"):
        holds_images(tmp_path / "a.npz")


def test_a_bad_file_of_a_folder_is_named(tmp_path):
    folder(tmp_path)
    Image.fromarray(IMAGES[0, :3]).save(tmp_path / "1" / "003.png")
    with pytest.raises(ValueError, match=r"003.png: has 3 x 4 pixels, expected 5 x 4 as 000.png"):
        read(tmp_path, 7)
    (tmp_path / "1" / "003.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"003.png: no image in one of the formats"):
        read(tmp_path, 7)


def test_an_array_that_is_cut_off_is_refused(tmp_path):
    whole = io.BytesIO()
    np.save(whole, IMAGES)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("arr_0.npy", whole.getvalue()[:-70])
    with pytest.raises(ValueError, match=r"ends in image 5 of 7; write it again"):
        read(tmp_path / "a.npz", 4)
