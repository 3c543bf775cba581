import numpy as np
import pytest

from mvar_jax.pictures.image_grid import (
    GAP,
    NARROWEST,
    edit_grid,
    growth_grid,
    image_grid,
    reconstruction_grid,
)
from mvar_jax.pictures.text import ELLIPSIS, font, shorten, wrap


def flat(*values, height=4, width=6):
    return np.stack([np.full((height, width, 3), value, np.float32) for value in values])


def test_images_stand_in_rows_with_gaps_and_each_pixel_scaled():
    picture = np.asarray(image_grid(flat(-1, 0, 0.5, 1, -1), columns=3, scale=2))
    assert picture.shape == (2 * (8 + GAP) + GAP, 3 * (12 + GAP) + GAP, 3)
    for index, value in enumerate([0, 128, 191, 255, 0]):
        top, left = GAP + index // 3 * (8 + GAP), GAP + index % 3 * (12 + GAP)
        assert (picture[top : top + 8, left : left + 12] == value).all()
    assert (picture[:, :GAP] == 255).all() and (picture[8 + GAP : 8 + 2 * GAP] == 255).all()


def test_pixels_are_in_their_places_and_beyond_the_range_clipped():
    image = np.random.default_rng(0).uniform(-2, 2, (1, 5, 7, 3)).astype(np.float32)
    picture = np.asarray(image_grid(image, columns=1))[GAP:-GAP, GAP:-GAP]
    expected = np.round((np.clip(image[0], -1, 1) + 1) * 127.5)
    np.testing.assert_array_equal(picture, expected)


def test_labels_stand_left_of_their_rows_in_ink():
    images = flat(1, 1, 1, 1, height=32, width=32)
    plain = image_grid(images, columns=2)
    picture = image_grid(images, columns=2, row_labels=["cat", ""])
    margin = picture.width - plain.width
    assert margin > 0 and picture.height == plain.height
    pixels = np.asarray(picture)
    np.testing.assert_array_equal(pixels[:, margin:], np.asarray(plain))
    assert pixels[: 32 + GAP, :margin].min() < 64
    assert (pixels[32 + 2 * GAP :, :margin] == 255).all()


def test_different_labels_give_different_pictures():
    images = flat(1, 1, height=32, width=32)
    first, second = (image_grid(images, 1, labels) for labels in (["3", "8"], ["8", "3"]))
    assert first.tobytes() != second.tobytes()


@pytest.mark.parametrize("letter", "üéßłαяש")
def test_letters_beyond_ascii_are_drawn_and_not_as_boxes(letter):
    images = flat(1, height=32, width=32)
    unknown = image_grid(images, 1, ["\ufffe"])  # what the font draws for what it lacks
    picture = image_grid(images, 1, [letter])
    assert np.asarray(picture).min() < 64 and picture.tobytes() != unknown.tobytes()


def test_long_labels_are_cut_to_a_width_that_follows_the_images():
    name = "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias"
    for columns, width in ((1, 32), (2, 64), (8, 256)):
        images = flat(*[1] * columns, height=32, width=width)
        plain, picture = (image_grid(images, columns, names) for names in ((), [name]))
        limit = max(NARROWEST, columns * (width + GAP) // 3)
        assert limit // 2 < picture.width - plain.width <= limit + 4 * GAP
        assert image_grid(images, columns, [name + "!"]).tobytes() == picture.tobytes()


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_cut_label_is_the_longest_beginning_that_fits(width):
    text = "Königspinguin, Aptenodytes patagonica"
    cut = shorten(text, width)
    assert cut.endswith(ELLIPSIS) and text.startswith(cut[:-1])
    assert font().getlength(cut) <= width
    assert font().getlength(text[: len(cut)] + ELLIPSIS) > width
    assert shorten("ox", 40) == "ox" and shorten(text, 1000) == text


def test_long_labels_are_broken_between_words():
    text = "a small dark red striped gear on pale green"
    lines = wrap(text, 120, 4).split("\n")
    assert " ".join(lines) == text and 1 < len(lines) <= 4
    assert all(font().getlength(line) <= 120 for line in lines)
    assert wrap(text, 1000, 4) == text and wrap(text, 120, 1) == shorten(text, 120)
    first, last = wrap(text, 120, 2).split("\n")
    assert text.startswith(f"{first} {last[:-1]}") and last.endswith(ELLIPSIS)
    assert wrap("Königspinguin Aptenodytes", 40, 3) == shorten("Königspinguin Aptenodytes", 40)


def test_reconstructions_stand_below_their_originals():
    originals, reconstructions = flat(-1, -1, -1), flat(0, 0, 0)
    picture = np.asarray(reconstruction_grid(originals, reconstructions, columns=2))
    right = picture[:, -2 * (6 + GAP) :]
    tops = [GAP + row * (4 + GAP) for row in range(4)]
    assert [int(right[top + 1, 1, 0]) for top in tops] == [0, 128, 0, 128]
    assert [int(right[top + 1, 7 + GAP, 0]) for top in tops] == [0, 128, 255, 255]


@pytest.mark.parametrize(("images", "columns", "expected"), [(3, 10, 3), (4, 2, 2), (1, 10, 1)])
def test_reconstructions_leave_no_column_blank(images, columns, expected):
    picture = reconstruction_grid(flat(*[-1] * images), flat(*[0] * images), columns)
    labels = image_grid(flat(-1, 0), 1, ["real", "decoded"]).width - (6 + 2 * GAP)
    assert picture.width == labels + expected * (6 + GAP) + GAP
    assert picture.height == 2 * -(-images // expected) * (4 + GAP) + GAP


def test_an_image_grows_along_its_row():
    grown = np.stack([flat(-1, 1), flat(-0.5, 0.5), flat(0, 0)])
    picture = np.asarray(growth_grid(grown))
    assert picture.shape == (2 * (4 + GAP) + GAP, 3 * (6 + GAP) + GAP, 3)
    cells = [[int(picture[GAP + 6 * i + 1, GAP + 8 * j + 1, 0]) for j in range(3)] for i in (0, 1)]
    assert cells == [[0, 64, 128], [255, 191, 128]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"images": flat(0)[:0], "columns": 2}, "no images"),
        ({"images": flat(0)[0], "columns": 2}, r"shape \(4, 6, 3\), expected \(batch, height"),
        ({"images": flat(0).astype(np.uint8), "columns": 2}, "got uint8, expected floats"),
        ({"images": flat(0), "columns": 0}, "0 columns"),
        ({"images": flat(0), "columns": 1, "scale": 0}, "scale 0"),
        ({"images": flat(0, 0), "columns": 1, "row_labels": ["one"]}, "1 labels for 2 rows"),
    ],
)
def test_what_makes_no_picture_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        image_grid(**arguments)


def test_edits_show_the_image_the_mask_and_the_results():
    images = np.full((2, 4, 4, 3), 0.5)
    masks = np.zeros((2, 4, 4))
    masks[1, :, 2:] = 1
    picture = np.asarray(edit_grid(images, masks, -images, images))
    cells = [picture[GAP:, GAP + i * (4 + GAP) :][: 2 * 4 + GAP, :4] for i in range(4)]
    assert picture.shape == (2 * (4 + GAP) + GAP, 4 * (4 + GAP) + GAP, 3)
    for cell, value in zip(cells, (191, 191, 64, 191)):
        assert np.all(cell[:4] == value)
    assert np.all(cells[1][4 + GAP :, :2] == 191) and np.all(cells[1][4 + GAP :, 2:] == 128)
