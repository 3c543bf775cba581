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

    def __init__(self, count, bad):
        self.count, self.bad, self.reads = count, set(bad), []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads.append(index)
        if index in self.bad:
            return {"image": b"nonsense", "label": 0}
        return {"image": encode(np.full((4, 4, 3), index % 256, np.uint8)), "label": index % 2}

    def describe(self, index):
        return f"image {index}"


def source_of(count, bad):
    return ImageSource("photos", "train", Listed(count, bad), class_names=("cat", "dog"))


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
    assert source._records.reads.count(3) == 1


def test_the_count_is_said_when_the_source_is_no_longer_used(caplog):
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


def test_more_than_one_in_a_hundred_ends_the_run():
    source = source_of(200, [5, 50, 150])
    brightness(source, 5, 50)
    with pytest.raises(ValueError, match=r"3 of 200 images of photos split 'train' cannot be read"):
        source[150]


def test_a_small_split_may_have_more(caplog):
    assert brightness(source_of(100, range(1, 100)), 50) == [0]


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
