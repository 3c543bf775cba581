import os
import shutil
from collections import Counter

import numpy as np
import pytest

from mvar_jax.config import DataConfig
from mvar_jax.data.decode import FORMATS
from mvar_jax.data.folder import MAX_BYTES, scan_folder
from mvar_jax.data.pipeline import eval_batches, train_batches
from mvar_jax.data.source import load_source
from tests.data.builders import encode, gradient


def fill(folder, *names, kind="PNG"):
    for number, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(gradient(12, 10 + number % 5), kind))
    return folder


def numbered(name, count):
    return [f"{name}/{index:03d}.png" for index in range(count)]


@pytest.fixture
def photos(tmp_path):
    return fill(tmp_path, *numbered("dog", 40), *numbered("cat", 30), *numbered("zebra", 30))


def files(folder, split):
    return scan_folder(folder, split)[0].files


def message(folder, split="train"):
    with pytest.raises(ValueError) as caught:
        load_source("folder", split, str(folder))
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


def test_classes_are_the_sorted_folders(photos):
    source = load_source("folder", "train", str(photos))
    assert source.class_names == ("cat", "dog", "zebra") and source.num_classes == 3
    records, _ = scan_folder(photos, "train")
    names = [source.class_names[label] for label in records.labels]
    assert names == [file.split("/")[0] for file in records.files]
    assert source[0]["image"].dtype == np.uint8


def test_one_image_in_twenty_is_for_validation(tmp_path):
    fill(tmp_path, *numbered("cat", 400))
    train, validation = files(tmp_path, "train"), files(tmp_path, "validation")
    assert sorted(train + validation) == numbered("cat", 400)
    assert 10 <= len(validation) <= 30


def test_images_that_are_added_move_no_others(photos):
    train, validation = set(files(photos, "train")), set(files(photos, "validation"))
    fill(photos, *numbered("fox", 20))
    assert train < set(files(photos, "train")) and validation <= set(files(photos, "validation"))


def test_the_split_does_not_depend_on_where_the_folder_lies(photos, tmp_path_factory):
    copy = shutil.copytree(photos, tmp_path_factory.mktemp("elsewhere") / "copy")
    for split in ("train", "validation"):
        assert files(photos, split) == files(copy, split)


def test_of_very_few_images_one_is_for_validation(tmp_path):
    fill(tmp_path, "cat/a.png", "cat/b.png")
    assert len(files(tmp_path, "train")) == len(files(tmp_path, "validation")) == 1


def test_any_stretch_of_the_images_has_all_classes(photos):
    counts = Counter(file.split("/")[0] for file in files(photos, "train")[:30])
    assert min(counts.values()) >= 3 and len(counts) == 3


def test_folders_of_splits_are_taken_as_they_are(tmp_path):
    fill(tmp_path / "train", *numbered("dog", 30), *numbered("cat", 30))
    fill(tmp_path / "validation", "dog/a.png")
    assert len(files(tmp_path, "train")) == 60
    records, names = scan_folder(tmp_path, "validation")
    assert records.files == ("dog/a.png",) and names == ("cat", "dog") and records.labels == (1,)


def test_a_folder_of_training_images_alone_is_divided(tmp_path):
    fill(tmp_path / "train", *numbered("dog", 60))
    assert len(files(tmp_path, "train")) + len(files(tmp_path, "validation")) == 60


def test_splits_under_other_names_must_be_named(tmp_path):
    fill(tmp_path / "train", "dog/a.png")
    fill(tmp_path / "val", "dog/b.png")
    assert "has no split 'validation', expected one of ['train', 'val']" in message(
        tmp_path, "validation"
    )
    assert files(tmp_path, "val") == ("dog/b.png",)


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path, *numbered("car", 30), *numbered("train", 30))
    assert scan_folder(tmp_path, "train")[1] == ("car", "train")


def test_folders_in_class_folders_mixed_formats_and_capitals_are_read(tmp_path):
    fill(tmp_path, "dog/old/deep/a.PNG", "dog/b.png", "dog/ü 1.png", "dog/with.dots.png")
    fill(tmp_path, "dog/c.JPEG", "dog/d.jpg", kind="JPEG")
    fill(tmp_path, "dog/e.webp", kind="WEBP")
    found = files(tmp_path, "train") + files(tmp_path, "validation")
    assert len(found) == 7 and "dog/old/deep/a.PNG" in found
    assert all(
        example["image"].shape[0] == 12 for example in load_source("folder", "train", str(tmp_path))
    )


def test_hidden_files_are_passed_over_and_others_named(photos, caplog):
    fill(photos, ".cache/a.png", "dog/.hidden.png", "dog/._a.png", "cat/.trash/a.png")
    (photos / "dog" / "notes.txt").write_text("three dogs")
    found = files(photos, "train") + files(photos, "validation")
    assert len(found) == 100
    assert "passed over 1 files" in caplog.text and "notes.txt" in caplog.text


def test_what_is_passed_over_is_said_once_and_photos_of_phones_apart(photos, caplog):
    (photos / "dog" / "notes.txt").write_text("three dogs")
    for name in ("cat/a.HEIC", "dog/b.heif"):
        (photos / name).write_bytes(b"\0\0\0\x18ftypheic")
    for split in ("train", "validation", "train"):
        load_source("folder", split, str(photos))
    assert caplog.text.count("passed over") == 2
    assert "passed over 2 HEIC files" in caplog.text and "cat/a.HEIC" in caplog.text
    assert "convert them to JPEG" in caplog.text and "passed over 1 files" in caplog.text


def test_links_are_followed_once(photos, tmp_path_factory):
    outside = fill(tmp_path_factory.mktemp("outside"), "x.png")
    (photos / "dog" / "more").symlink_to(outside)
    (photos / "dog" / "again").symlink_to(outside)
    (photos / "dog" / "round").symlink_to(photos / "dog")
    (photos / "dog" / "up").symlink_to(photos)
    found = files(photos, "train") + files(photos, "validation")
    assert len(found) == 101


def test_damaged_files_are_skipped_by_name(photos, caplog):
    (photos / "dog" / "broken.png").write_bytes(encode(gradient(30, 30))[:-40])
    for split in ("train", "validation"):
        list(load_source("folder", split, str(photos)))
    assert f"skipped dog/broken.png of {photos}" in caplog.text


def test_what_is_no_image_is_told_at_the_start_in_one_warning(tmp_path, caplog):
    photos = fill(tmp_path, "train/dog/a.png", "train/dog/b.png")
    (photos / "train" / "dog" / "lost.png").symlink_to(photos / "nowhere.png")
    os.mkfifo(photos / "train" / "dog" / "pipe.png")
    (photos / "train" / "dog" / "empty.png").write_bytes(b"")
    (photos / "train" / "dog" / "text.png").write_text("a dog")
    fill(photos / "test", "dog/c.png")
    source = load_source("folder", "train", str(photos))
    assert [record.getMessage() for record in caplog.records] == [
        f"data: skipped 4 of 6 images of {photos} split 'train': dog/empty.png (it has 0 bytes, "
        f"expected 1 to {MAX_BYTES}), dog/lost.png, dog/pipe.png (it is no file that can be read), "
        f"dog/text.png (no image in one of the formats {', '.join(FORMATS)})."
    ]
    assert len(list(source)) == 6 and len(caplog.records) == 1


def test_of_very_many_files_none_is_opened_at_the_start(photos, caplog, monkeypatch):
    (photos / "dog" / "empty.png").write_bytes(b"")
    monkeypatch.setattr("mvar_jax.data.folder.MOST_OPENED", 50)
    assert scan_folder(photos, "train")[0].find_unreadable() == {}


def test_bad_folders_are_named_with_a_remedy(tmp_path):
    assert "found no folder" in message(tmp_path / "nowhere")
    assert "holds no folders, expected one per class" in message(fill(tmp_path / "flat", "a.png"))
    (tmp_path / "flat" / "dog").mkdir()
    assert "dog holds no images, expected files named as .avif" in message(tmp_path / "flat")
    (tmp_path / "flat" / "dog" / "a.heic").touch()
    assert "convert its HEIC files to JPEG" in message(tmp_path / "flat")
    fill(tmp_path / "both" / "train", "dog/a.png")
    fill(tmp_path / "both" / "validation", "cat/a.png")
    assert "folder ['cat'], but" in message(tmp_path / "both", "validation")
    assert "is empty" in message(fill(tmp_path / "one", "dog/a.png"), "train")
    with pytest.raises(ValueError, match="got nothing, expected the folder"):
        load_source("folder", "train", "")


def test_the_official_augmentation_reads_a_folder(photos):
    data = DataConfig(name="folder", directory=str(photos), num_threads=2)
    batch = next(iter(train_batches(data, (8, 8), 16, seed=0)))
    assert batch["image"].shape == (16, 8, 8, 3) and set(batch["label"].tolist()) == {0, 1, 2}
    held = next(iter(eval_batches(data, (8, 8), 16, split="validation")))
    assert held["image"].shape[1:] == (8, 8, 3)
