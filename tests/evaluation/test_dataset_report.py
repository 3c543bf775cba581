"""A dataset in words and pictures, right and wrong ones."""

from dataclasses import replace

import numpy as np
import pytest

from mvar_jax.config import DataConfig
from mvar_jax.data.source import open_split
from mvar_jax.data.survey import survey_split
from mvar_jax.evaluation.dataset_report import (
    BATCH,
    SHEET_COLUMNS,
    SHEET_SIDE,
    contact_sheet,
    first_batch,
    report,
)
from mvar_jax.pictures.image_grid import GAP
from tests.data.builders import encode
from tests.training.tiny import CONFIG

SIZE = (8, 8)


def write(folder, split, name, content):
    file = folder / split / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def one_colour(side, shade):
    return encode(np.full((side, side, 3), shade, np.uint8))


@pytest.fixture
def data(tmp_path):
    """Three dark cats of 8, 9 and 10 pixels, one bright dog, and a cat to validate on."""
    for index in range(3):
        write(tmp_path, "train", f"cat/{index}.png", one_colour(8 + index, index))
    write(tmp_path, "train", "dog/0.png", one_colour(12, 255))
    write(tmp_path, "validation", "cat/0.png", one_colour(8, 0))
    return DataConfig(name="folder", directory=str(tmp_path), num_threads=0)


def surveys(data):
    return [
        survey_split(open_split(data.name, split, data.directory), 0, lambda: None)
        for split in (data.train_split, data.validation_split)
    ]


def test_what_is_right(data):
    assert report(surveys(data), data, SIZE).splitlines() == [
        "train: 4 images of 2 classes, 0 more cannot be read",
        "  images per class: 1 to 3, median 2",
        "    dog: 1",
        "    cat: 3",
        "  height in pixels: 8 to 12, median 9.5",
        "  width in pixels: 8 to 12, median 9.5",
        "  1 will be enlarged, smaller than 9x9 (height x width)",
        "validation: 1 images of 2 classes, 0 more cannot be read",
        "  images per class: 0 to 1, median 0.5",
        "    dog: 0",
        "    cat: 1",
        "  height in pixels: 8 to 8, median 8",
        "  width in pixels: 8 to 8, median 8",
        "  1 will be enlarged, smaller than 9x9 (height x width)",
        "  also in train: 1 images",
        "    cat/0.png = cat/0.png",
    ]


def test_what_is_wrong(data, tmp_path, monkeypatch):
    for index in range(60):
        write(tmp_path, "train", f"cat/bad_{index}.png", b"")
        write(tmp_path, "train", f"cat/{index}.txt", b"a cat")
    write(tmp_path, "train", "dog/0 copy.png", one_colour(12, 255))
    text = report(surveys(data), replace(data, augmentation="none"), SIZE)
    assert "train: 5 images of 2 classes, 60 more cannot be read" in text
    assert all(
        f"cannot be read: cat/bad_{index}.png (it has 0 bytes" in text for index in range(60)
    )
    assert "4 will be refused, of another size than 8x8 (height x width)" in text
    assert "passed over, as they are not named as images: 60 files\n    cat/0.txt\n" in text
    assert "    and 10 more files\n" in text
    assert "twice: 1 images\n    dog/0" in text


def test_the_contact_sheet_has_a_row_of_every_class_with_its_images(data):
    picture = np.asarray(contact_sheet(surveys(data)[0]))
    height, width = (2 * (SHEET_SIDE + GAP) + GAP, SHEET_COLUMNS * (SHEET_SIDE + GAP) + GAP)
    assert picture.shape[0] == height and picture.shape[1] > width
    cells = picture[:, -width:]
    middle = GAP + SHEET_SIDE // 2
    columns = [middle + column * (SHEET_SIDE + GAP) for column in range(SHEET_COLUMNS)]
    assert sorted(cells[middle, columns[:3], 0]) == [0, 1, 2]
    assert (cells[middle, columns[3:]] == 255).all()


def test_the_first_batch_is_cropped_as_in_training(data):
    picture = np.asarray(first_batch(replace(CONFIG, data=data, batch_size=16)))
    cell = 8 * SIZE[0] + GAP
    assert picture.shape == (2 * cell + GAP, SHEET_COLUMNS * cell + GAP, 3)
    assert set(np.unique(picture[GAP : cell - GAP, GAP : cell - GAP])) <= {0, 1, 2, 255}
    many = np.asarray(first_batch(replace(CONFIG, data=data, batch_size=1000)))
    assert many.shape[0] == BATCH // SHEET_COLUMNS * cell + GAP


def test_what_ends_a_training_ends_the_first_batch(data, tmp_path):
    refused = replace(CONFIG, data=replace(data, augmentation="none"))
    with pytest.raises(ValueError, match=r"expected \(8, 8\); set data\.augmentation='crop'"):
        first_batch(refused)
