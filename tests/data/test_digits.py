import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from mvar_jax.data.digits import Digits, encode_digit
from mvar_jax.data.source import load_source

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def prepared(digits_directory):
    builder = Digits(data_dir=digits_directory)
    return {split: list(builder.as_data_source(split)) for split in SPLITS}


def test_every_digit_is_in_exactly_one_split(prepared):
    ids = [example["id"].decode() for split in SPLITS for example in prepared[split]]
    assert sorted(ids) == [f"digit_{index:04d}" for index in range(1797)]
    assert [len(prepared[split]) for split in SPLITS] == [1254, 179, 364]


def test_splits_keep_the_shares_of_the_classes(prepared):
    totals = np.bincount(load_digits().target)
    for split, share in zip(SPLITS, (0.7, 0.1, 0.2)):
        counts = np.bincount([example["label"] for example in prepared[split]], minlength=10)
        assert np.abs(counts - share * totals).max() < 2


def test_the_image_and_label_of_an_id_are_those_of_scikit_learn(prepared):
    digits = load_digits()
    for example in prepared["test"][::37]:
        index = int(example["id"].decode().removeprefix("digit_"))
        assert example["label"] == digits.target[index]
        averaged = example["image"][..., 0].reshape(8, 4, 8, 4).mean(axis=(1, 3))
        assert np.corrcoef(averaged.ravel(), digits.images[index].ravel())[0, 1] > 0.97


def test_preparing_again_elsewhere_gives_the_same_records(digits_directory, tmp_path):
    again = load_source("digits", "validation", str(tmp_path))
    first = load_source("digits", "validation", digits_directory)
    assert len(again) == len(first) == 179
    for one, other in zip(first, again):
        assert one["label"] == other["label"]
        np.testing.assert_array_equal(one["image"], other["image"])


def test_a_digit_is_encoded_as_grey_rgb_png_over_the_full_range():
    pixels = np.zeros((8, 8))
    pixels[:, 4:] = 16
    image = Image.open(io.BytesIO(encode_digit(pixels)))
    array = np.asarray(image)
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (32, 32))
    assert array[0, 0].tolist() == [0, 0, 0] and array[31, 31].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(array[..., 0], array[..., 2])
