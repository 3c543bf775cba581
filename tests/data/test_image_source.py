import gc
import logging
import threading

import numpy as np
import pytest

from mvar_jax.data.image_source import ImageSource
from mvar_jax.data.skipped import SkippedRecords
from tests.data.builders import encode


class Listed:
    """Images of one colour each: record i is as bright as i, the bad ones are no images."""

    def __init__(self, count, bad, known=()):
        self.count, self.bad, self.known, self.reads = count, set(bad), known, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads.append(index)
        if index in self.bad:
            return {"image": b"nonsense", "label": 0}
        return {"image": encode(np.full((4, 4, 3), index % 256, np.uint8)), "label": index % 2}

    def describe(self, index):
        return f"image {index}"

    def find_unreadable(self):
        return {index: "no image" for index in self.known}


def source_of(count, bad, known=()):
    records = Listed(count, bad, known)
    return ImageSource("photos", "train", records, class_names=("cat", "dog"))


def brightness(source, *indices):
    return [int(source[index]["image"][0, 0, 0]) for index in indices]


def test_the_next_that_can_be_read_takes_the_place_of_one_that_cannot(caplog):
    source = source_of(10, [3, 4, 9])
    assert brightness(source, *range(10)) == [0, 1, 2, 5, 5, 5, 6, 7, 8, 0]
    assert source[3]["label"] == 1 and len(source) == 10
    assert sorted(source.skipped.causes) == [3, 4, 9] and len(source.skipped) == 3
    assert source.read(4) is None and source.read(5) is not None


def test_a_warning_names_each_once_with_the_cause_and_the_count(caplog):
    source = source_of(10, [3, 7])
    for _ in range(3):
        list(source)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("data: skipped image 3 of photos split 'train' (no image in one of")
    assert first.endswith("1 of 10 so far.") and second.endswith("2 of 10 so far.")


def test_what_was_skipped_is_not_read_again(caplog):
    source = source_of(10, [3])
    for _ in range(3):
        list(source)
    assert source.records.reads.count(3) == 1


def test_the_count_is_said_when_the_source_is_no_longer_used(caplog):
    gc.collect()  # sources of other tests
    source = source_of(10, [3, 7])
    list(source)
    caplog.clear()
    del source
    gc.collect()
    assert [r.getMessage() for r in caplog.records] == [
        "data: 2 of 10 images of photos split 'train' were skipped, because they cannot be read."
    ]


def test_nothing_is_said_where_nothing_was_skipped(caplog):
    source = source_of(10, [])
    list(source)
    del source
    gc.collect()
    assert caplog.records == []


def test_ten_are_allowed_of_any_split_and_more_end_the_run_by_name(caplog):
    bad = range(6, 28, 2)
    source = source_of(200, bad)
    brightness(source, *bad[:10])
    assert len(source.skipped) == 10
    with pytest.raises(ValueError) as caught:
        source[26]
    message = str(caught.value)
    assert message.startswith(
        "data: 11 of 200 images of photos split 'train' cannot be read, expected at most 10; "
        "replace or remove the damaged files: image 10, image 12, "
    )
    assert all(f"image {index}" in message for index in bad)
    assert message.count("no image in one of") == 1 and message.endswith(").")


def test_of_a_large_split_one_in_a_hundred_is_allowed(caplog):
    bad = range(6, 68, 2)
    source = source_of(3000, bad)
    brightness(source, *bad[:30])
    with pytest.raises(ValueError, match=r"31 of 3000 .* expected at most 30; .* and 11 more"):
        source[66]


def test_what_is_known_to_be_damaged_is_told_in_one_warning_and_never_read(caplog):
    source = source_of(10, [3, 4], known=[3, 7])
    assert [record.getMessage() for record in caplog.records] == [
        "data: skipped 2 of 10 images of photos split 'train': image 3, image 7 (no image)."
    ]
    assert brightness(source, *range(10)) == [0, 1, 2, 5, 5, 5, 6, 8, 8, 9]
    assert not {3, 7} & set(source.records.reads)
    assert "skipped image 4" in caplog.text


def test_too_many_that_are_known_to_be_damaged_are_told_before_any_is_read():
    with pytest.raises(ValueError, match=r"11 of 244 images .* image 19, image 9 \(no image\)\.$"):
        source_of(244, [], known=range(9, 20))


def test_a_split_without_any_readable_image_is_refused(caplog):
    with pytest.raises(ValueError, match=r"none of the 4 images of photos split 'train' can be"):
        source_of(4, range(4))


def test_a_label_that_no_class_has_is_skipped(caplog):
    source = ImageSource("photos", "train", Listed(4, []), class_names=("cat",))
    assert brightness(source, 0, 1) == [0, 2]
    assert "its label is 1, no class has it" in caplog.text


def test_threads_that_find_the_same_record_warn_once(caplog):
    skipped = SkippedRecords("photos", 10)
    start = threading.Barrier(8)

    def find(number):
        start.wait()
        skipped.add(3, "image 3", f"cause {number}")

    threads = [threading.Thread(target=find, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caplog.records) == 1 and len(skipped) == 1
