"""Drawings in files: pictures of all images, a file for each, and arrays of all."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mvar_jax.pictures.drawing import Drawing, Rows
from mvar_jax.pictures.image_grid import GAP, growth_grid, image_grid
from mvar_jax.pictures.pixels import enlarge, to_uint8
from tests.sampling.test_model import tiny_model

LABELS, NUMBERS = [2, 0], [7, 1]
NAMES = ("tench, Tinca tinca", "dog", "Köttur/2")


@pytest.fixture(scope="module")
def model():
    return replace(tiny_model(), class_names=NAMES)


@pytest.fixture
def drawing(model):
    rows = Rows(LABELS, tuple(NAMES[label] for label in LABELS))
    return Drawing(model, rows, 3, NUMBERS, {"top_k": 4, "batch_size": 2})


@pytest.fixture(scope="module")
def samples(model):
    return model.sample(LABELS, 3, numbers=NUMBERS, top_k=4)


def read(file):
    with Image.open(file) as picture:
        return np.asarray(picture)


def test_a_grid_shows_the_samples(drawing, samples, tmp_path):
    drawing.save_grid(tmp_path / "a.png", columns=2, scale=3)
    expected = image_grid(samples.images, 2, ["Köttur/2"], scale=3)
    np.testing.assert_array_equal(read(tmp_path / "a.png"), expected)


def test_a_grid_shows_how_they_grow(drawing, model, tmp_path):
    drawing.save_grid(tmp_path / "a.png", columns=2, scale=1, grow=True)
    grown = model.grow(LABELS, 3, numbers=NUMBERS, top_k=4)
    expected = growth_grid(grown, ["Köttur/2", "tench, Tinca tinca"])
    np.testing.assert_array_equal(read(tmp_path / "a.png"), expected)
    assert expected.height == 2 * (8 + GAP) + GAP


def test_every_image_has_a_file_named_by_seed_number_and_class(drawing, samples, tmp_path):
    drawing.save_each(tmp_path / "new", scale=2)
    names = ["seed3_00007_Köttur-2.png", "seed3_00001_tench.png"]
    assert sorted(names) == sorted(file.name for file in (tmp_path / "new").iterdir())
    for name, image in zip(names, enlarge(to_uint8(samples.images), 2), strict=True):
        np.testing.assert_array_equal(read(tmp_path / "new" / name), image)


def test_a_file_of_its_own_shows_how_an_image_grows(drawing, samples, tmp_path):
    drawing.save_each(tmp_path, grow=True)
    strip = read(tmp_path / "seed3_00001_tench.png")
    assert strip.shape == (8, 3 * 12, 3)
    np.testing.assert_array_equal(strip[:, 2 * 12 :], to_uint8(samples.images)[1])


def test_arrays_hold_what_is_needed_to_draw_them_again(drawing, samples, model, tmp_path):
    for name in ("a.npz", "b.npz"):
        drawing.save_arrays(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], to_uint8(samples.images))
        assert arrays["tokens"].dtype == np.int32 and arrays["lengths"].tolist() == [1, 2, 6]
        ends = np.cumsum(arrays["lengths"])[:-1]
        for one, other in zip(
            np.split(arrays["tokens"], ends, axis=1), samples.tokens, strict=True
        ):
            np.testing.assert_array_equal(one, other)
        names = arrays["class_names"][arrays["labels"]].tolist()
        assert names == ["Köttur/2", "tench, Tinca tinca"]
        again = model.sample(
            arrays["labels"].tolist(),
            int(arrays["seed"]),
            numbers=arrays["numbers"].tolist(),
            top_k=4,
        )
    np.testing.assert_array_equal(to_uint8(again.images), to_uint8(samples.images))


def test_a_picture_that_does_not_fit_is_refused_before_anything_is_drawn(model, tmp_path):
    many = Drawing(
        model, Rows([0], NAMES[:1]).pick([0] * 2000), 0, list(range(2000)), {"strength": 1}
    )  # which is unknown
    with pytest.raises(ValueError, match=r"24 x 32000 pixels does not fit into a \.webp"):
        many.save_grid(tmp_path / "a.webp", columns=1, scale=2)


def test_a_picture_too_large_for_memory_is_refused_before_anything_is_drawn(model, tmp_path):
    drawing = Drawing(model, Rows([0], NAMES[:1]), 0, [0], {"strength": 1})  # which is unknown
    for out in (tmp_path / "a.png", tmp_path):
        with pytest.raises(ValueError, match=r"1200000 x 800000 pixels is too large, expected at"):
            drawing.save(out, columns=1, scale=10**5)
