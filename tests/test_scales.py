"""Schedules of scales: lengths, offsets, slices, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvar_jax.scales import VAR_256, VAR_512, ScaleSchedule

SIDES = st.integers(1, 20)
SIZES = st.lists(st.tuples(SIDES, SIDES), max_size=6)


def ending_large(sizes):
    """The sizes, and a last one that is at least as large as every other."""
    largest = (max([1, *(h for h, _ in sizes)]), max([1, *(w for _, w in sizes)]))
    return (*sizes, largest)


@given(SIZES.map(ending_large))
def test_slices_cut_the_sequence_into_scales(sizes):
    schedule = ScaleSchedule(sizes)
    assert len(schedule) == len(schedule.lengths) == len(schedule.offsets) == len(schedule.slices)
    joined = [place for own in schedule.slices for place in range(schedule.total)[own]]
    assert joined == list(range(schedule.total))
    for (height, width), length, offset, own in zip(
        sizes, schedule.lengths, schedule.offsets, schedule.slices
    ):
        assert length == height * width == own.stop - own.start
        assert offset == own.start
    assert schedule.last == sizes[-1]
    assert schedule.total == sum(schedule.lengths)


@given(SIZES.map(ending_large))
def test_equal_sizes_are_the_same_schedule(sizes):
    schedule = ScaleSchedule(sizes)
    again = ScaleSchedule.of([list(size) for size in sizes])
    assert again == schedule and hash(again) == hash(schedule)
    assert ScaleSchedule.of(schedule) is schedule


def test_official_schedules():
    assert (len(VAR_256), VAR_256.total, VAR_256.last) == (10, 680, (16, 16))
    assert (len(VAR_512), VAR_512.total, VAR_512.last) == (10, 2240, (32, 32))
    assert VAR_256.offsets == (0, 1, 5, 14, 30, 55, 91, 155, 255, 424)
    assert ScaleSchedule.squares(1, 3).sizes == ((1, 1), (3, 3))


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ((), "got no scale, expected at least one"),
        (((1, 1), (0, 2)), r"got \(0, 2\), expected"),
        (((1, -1),), r"got \(1, -1\), expected"),
        (((1, 3), (2, 2)), r"\(1, 3\) exceeds the last scale \(2, 2\); order the scales"),
        (((3, 1), (2, 2)), r"\(3, 1\) exceeds the last scale \(2, 2\); order the scales"),
    ],
)
def test_impossible_schedules_are_refused(sizes, sentence):
    with pytest.raises(ValueError, match=f"scales: {sentence}"):
        ScaleSchedule(sizes)
