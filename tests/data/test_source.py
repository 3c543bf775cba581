import gc
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from mvar_jax.data import image_source
from mvar_jax.data import source as source_module
from mvar_jax.data.digits import Digits
from mvar_jax.data.source import load_source
from tests.data.builders import BrokenPhotos, Captions, Photos

SHARD = "digits/1.0.0/digits-train.array_record-00000-of-00001"
INFO = "digits/1.0.0/dataset_info.json"


@pytest.fixture
def copy(digits_directory, tmp_path):
    return Path(shutil.copytree(digits_directory, tmp_path / "copy"))


def message(name, split, directory):
    with pytest.raises(ValueError) as caught:
        load_source(name, split, str(directory))
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


def test_source_gives_decoded_images_labels_and_class_names(digits_directory):
    source = load_source("digits", "test", digits_directory)
    example = source[5]
    assert len(source) == 364
    assert example["image"].shape == (32, 32, 3) and example["image"].dtype == np.uint8
    assert example["label"].dtype == np.int32
    assert source.class_names == tuple("0123456789") and source.num_classes == 10


def test_a_part_of_a_split_can_be_named(digits_directory):
    assert len(load_source("digits", "train[:100]", digits_directory)) == 100


def test_as_many_decoded_images_are_kept_as_there_is_room_for(digits_directory, monkeypatch):
    kept = load_source("digits", "test", digits_directory)
    assert kept[3]["image"] is kept[3]["image"]
    monkeypatch.setattr(image_source, "CACHE_BYTES", 2 * 32 * 32 * 3 + 1)
    read = load_source("digits", "test", digits_directory)  # looks at the first
    assert read[5]["image"] is read[5]["image"] and read[0]["image"] is read[0]["image"]
    assert read[3]["image"] is not read[3]["image"]
    np.testing.assert_array_equal(read[3]["image"], kept[3]["image"])


def test_preparing_is_quiet_offline_and_done_once(tmp_path, capfd, caplog, monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    gc.collect()  # sources of other tests, which tell what they skipped
    caplog.clear()
    assert len(load_source("digits", "train", str(tmp_path))) == 1254
    written = (tmp_path / SHARD).stat().st_mtime_ns
    assert len(load_source("digits", "test", str(tmp_path))) == 364
    assert (tmp_path / SHARD).stat().st_mtime_ns == written
    assert capfd.readouterr() == ("", "") and caplog.records == []
    message("imagenet2012", "train", tmp_path)


def test_a_killed_preparation_does_no_harm(tmp_path, monkeypatch):
    killed = tmp_path / "digits" / "incomplete.ABCDEF_1.0.0"
    killed.mkdir(parents=True)
    (killed / "digits-train.array_record-00000-of-00001").write_bytes(b"half")
    complete = Digits._generate_examples

    def interrupted(self, split):
        yield next(iter(complete(self, split)))
        raise KeyboardInterrupt

    monkeypatch.setattr(Digits, "_generate_examples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_source("digits", "train", str(tmp_path))
    monkeypatch.undo()
    assert len(load_source("digits", "train", str(tmp_path))) == 1254


def test_a_preparation_that_another_process_finished_first_is_used(
    tmp_path, digits_directory, monkeypatch
):
    def overtaken(builder, files):
        shutil.copytree(Path(digits_directory) / "digits", tmp_path / "digits")
        raise OSError("Directory not empty")

    monkeypatch.setattr(source_module, "_prepare", overtaken)
    assert len(load_source("digits", "train", str(tmp_path))) == 1254


@pytest.mark.parametrize("name", ["imagenet2012", "cifar10", "nonsense", "not a name!", ""])
def test_unprepared_and_unknown_datasets_are_named(name, tmp_path):
    text = message(name, "train", tmp_path)
    assert repr(name) in text and str(tmp_path) in text and "digits" in text


@pytest.mark.parametrize("split", ["training", "train[", ""])
def test_unknown_splits_are_named_with_those_that_exist(split, digits_directory):
    text = message("digits", split, digits_directory)
    assert repr(split) in text and "'test', 'train', 'validation'" in text


def test_an_empty_split_is_an_error(digits_directory):
    assert "is empty" in message("digits", "train[:0%]", digits_directory)


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot prepare digits in" in message("digits", "train", tmp_path / "file")


@pytest.mark.parametrize("lost", [SHARD, INFO])
def test_a_lost_file_is_reported_with_its_place(lost, copy):
    (copy / lost).unlink()
    text = message("digits", "train", copy)
    assert str(copy / "digits") in text and "delete it" in text


@pytest.mark.parametrize("broken", [SHARD, INFO])
def test_a_truncated_file_is_reported_with_its_place(broken, copy):
    whole = (copy / broken).read_bytes()
    (copy / broken).write_bytes(whole[: len(whole) // 2])
    text = message("digits", "train", copy)
    assert str(copy / "digits") in text and "delete it" in text


def test_damage_inside_of_a_file_costs_some_records_which_are_named(copy, caplog):
    whole = (copy / SHARD).read_bytes()
    (copy / SHARD).write_bytes(whole[:100_000] + bytes(1000) + whole[101_000:])
    source = load_source("digits", "train", str(copy))
    assert len(list(source)) == 1254
    assert 1 <= len(source.skipped) <= 3
    for index in source.skipped.causes:
        assert f"skipped record {index} of digits split 'train' (Corrupted" in caplog.text


def test_copies_prepared_elsewhere_are_read(tmp_path):
    Photos.prepare(tmp_path)
    source = load_source("photos", "train", str(tmp_path))
    assert source.class_names == ("cat", "dog")
    shapes = {source[index]["image"].shape for index in range(3)}
    assert shapes == {(30, 50, 3), (48, 20, 3), (24, 24, 3)}


def test_copies_in_another_format_are_refused(tmp_path):
    Photos.prepare(tmp_path)
    info = tmp_path / "photos" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    assert "complete ArrayRecord dataset" in message("photos", "train", tmp_path)


@pytest.mark.parametrize("split", ["bad", "cut"])
def test_a_split_of_bytes_that_are_no_images_is_refused(split, tmp_path):
    BrokenPhotos.prepare(tmp_path)
    text = message("broken_photos", split, tmp_path)
    assert f"none of the 1 images of broken_photos split '{split}'" in text and "record 0" in text


def test_a_dataset_without_labels_is_refused(tmp_path):
    Captions.prepare(tmp_path)
    text = message("captions", "train", tmp_path)
    assert "['image', 'text']" in text and "label" in text
