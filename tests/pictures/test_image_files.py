"""Pictures in files: bytes of any kind of image, written whole, one by one or together."""

import os

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import mvar_jax
from mvar_jax.pictures.image_files import check_fits, save_images, save_picture
from mvar_jax.pictures.image_grid import image_grid
from mvar_jax.pictures.pixels import to_uint8
from tests.pictures.test_image_grid import flat

NOISE = np.random.default_rng(0).uniform(-1.2, 1.2, (3, 16, 24, 3)).astype(np.float32)


def test_pixels_are_rounded_and_clipped():
    values = np.array([-2, -1, -0.996, 0, 0.5, 1, 3], np.float32)
    assert to_uint8(values).tolist() == [0, 0, 1, 128, 191, 255, 255]
    assert to_uint8(values).dtype == np.uint8


def test_what_is_no_image_has_no_pixels():
    assert to_uint8(jnp.array([-1, 0.5], jnp.bfloat16)).tolist() == [0, 191]
    for bytes_already in (np.array([0, 255], np.uint8), jnp.arange(2), np.array([True])):
        with pytest.raises(ValueError, match=r"images: got \w+, expected floats in \[-1, 1\]"):
            to_uint8(bytes_already)
    values = np.array([np.nan, 0, np.inf], np.float32)
    with pytest.raises(ValueError, match="images: got NaN in 1 of 3 values, expected numbers"):
        to_uint8(values)
    assert to_uint8(values, nan=-1.0).tolist() == [0, 128, 255]


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".webp", ".jpg", ".jpeg"])
def test_the_same_picture_gives_the_same_bytes(tmp_path, suffix):
    paths = [tmp_path / f"a{suffix}", tmp_path / "deep" / f"b{suffix}"]
    picture = image_grid(flat(-1, 1), 2, ["x"])
    for path in paths:
        save_picture(picture, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(paths[0]) as written:
        most = 40 if suffix.startswith(".j") else 0
        np.testing.assert_allclose(np.asarray(written, int), np.asarray(picture, int), atol=most)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    save_picture(image_grid(flat(0), 1), path)
    before = path.read_bytes()

    def full(self, file, **_):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        save_picture(image_grid(flat(1), 1), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.png"]


def test_another_kind_of_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"got the name 'a.bmp', expected .*\.png, \.jpg"):
        save_picture(image_grid(flat(0), 1), tmp_path / "a.bmp")
    assert not os.listdir(tmp_path)


def test_a_picture_that_a_kind_of_file_cannot_hold_is_refused(tmp_path):
    check_fits(tmp_path / "a.png", (10**6, 10**6))
    check_fits(tmp_path / "a.webp", (16383, 1))
    for suffix, size in ((".webp", (16384, 1)), (".jpg", (1, 65536)), (".JPEG", (65536, 1))):
        with pytest.raises(ValueError, match=r"does not fit into a .*name a \.png"):
            check_fits(tmp_path / f"a{suffix}", size)


def test_every_image_gets_a_file(tmp_path):
    names = ["tench", "../Köttur/ 2", "." * 3 + "x" * 300]
    files = save_images(NOISE, tmp_path / "new" / "images", names, scale=2)
    assert [file.name for file in files] == ["tench.png", "Köttur-2.png", "x" * 57 + ".png"]
    assert {file.parent for file in files} == {tmp_path / "new" / "images"}
    for file, image in zip(files, to_uint8(NOISE), strict=True):
        with Image.open(file) as written:
            assert written.size == (48, 32)
            np.testing.assert_array_equal(np.asarray(written)[::2, 1::2], image)


def test_images_without_names_are_counted(tmp_path):
    files = mvar_jax.save_images(NOISE, tmp_path, suffix=".webp")
    assert [file.name for file in files] == ["00000.webp", "00001.webp", "00002.webp"]
    assert sorted(os.listdir(tmp_path)) == [file.name for file in files]


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "a"], ["a", "b/c", "b-c"]])
def test_names_that_are_not_one_each_are_refused(tmp_path, names):
    with pytest.raises(ValueError, match="names: got 2 different ones for 3 images"):
        save_images(NOISE, tmp_path, names)
    assert not os.listdir(tmp_path)


def test_what_is_no_batch_of_images_or_no_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for shape in ((32, 32, 3), (2, 8, 8, 1), (2, 8, 8, 4), (1, 2, 8, 8, 3)):
        with pytest.raises(ValueError, match=r"images: got the shape \(.*\), expected \(batch, h"):
            save_images(np.zeros(shape, np.float32), "new")
    for arguments, sentence in (
        ((NOISE, ""), "folder: got an empty name, expected that of a folder"),
        ((NOISE, "file"), "folder: file is a file, expected a folder"),
        ((NOISE.astype(np.uint8), "new"), "images: got uint8, expected floats"),
        ((np.full_like(NOISE, np.nan), "new"), "images: got NaN"),
    ):
        with pytest.raises(ValueError, match=sentence):
            save_images(*arguments)
    with pytest.raises(ValueError, match="scale: got 0, expected at least 1"):
        save_images(NOISE, "new", scale=0)
    assert os.listdir(tmp_path) == ["file"]
