import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvar_jax.data.augment import center_crop, cover, random_crop, random_shift
from tests.data.builders import gradient


@pytest.mark.parametrize(
    ("shape", "size", "covering"),
    [
        ((100, 100), (36, 36), (36, 36)),
        ((375, 500), (288, 288), (288, 384)),
        ((500, 333), (288, 288), (432, 288)),
        ((20, 64), (36, 36), (36, 115)),
        ((64, 64), (16, 32), (32, 32)),
        ((30, 100), (40, 20), (40, 133)),
    ],
)
def test_cover_matches_the_short_side_and_rounds_the_other_down(shape, size, covering):
    resized = cover(gradient(*shape), size)
    assert resized.shape == (*covering, 3) and resized.dtype == np.uint8


def test_cover_is_lanczos_and_leaves_what_fits_alone():
    image = gradient(45, 60)
    expected = Image.fromarray(image).resize((48, 36), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(cover(image, (36, 36)), np.asarray(expected))
    assert cover(image, (45, 45)) is image


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(*[st.integers(1, 300)] * 2),
    st.tuples(*[st.integers(1, 64)] * 2),
)
def test_cover_reaches_the_size_and_no_side_could_be_smaller(shape, size):
    height, width = cover(np.zeros((*shape, 3), np.uint8), size).shape[:2]
    assert height >= size[0] and width >= size[1]
    assert height == size[0] or width == size[1]


def test_random_crops_are_parts_and_reach_all_corners():
    image = gradient(10, 12)
    seen = set()
    for seed in range(200):
        crop = random_crop(image, (8, 8), np.random.default_rng(seed))
        top, left = crop[0, 0, 0] // 5, crop[0, 0, 1] // 5
        np.testing.assert_array_equal(crop, image[top : top + 8, left : left + 8])
        seen.add((int(top), int(left)))
    assert seen == {(top, left) for top in range(3) for left in range(5)}


def test_the_center_crop_is_the_middle():
    image = gradient(10, 13)
    np.testing.assert_array_equal(center_crop(image, (8, 8)), image[1:9, 2:10])
    np.testing.assert_array_equal(center_crop(image, (10, 13)), image)


def test_shifts_reach_all_places_up_to_the_largest_and_repeat_the_border():
    image = gradient(9, 7)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")
    moved = {
        (down, right): padded[2 - down : 11 - down, 2 - right : 9 - right].tobytes()
        for down in range(-2, 3)
        for right in range(-2, 3)
    }
    generator = np.random.default_rng(0)
    seen = {random_shift(image, 2, generator).tobytes() for _ in range(400)}
    assert seen == set(moved.values()) and len(seen) == 25


def test_a_shift_by_nothing_is_the_image():
    image = gradient(6, 6)
    np.testing.assert_array_equal(random_shift(image, 0, np.random.default_rng(0)), image)
