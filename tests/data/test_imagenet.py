import io
import os
import tarfile

import pytest

from mvar_jax.data import imagenet
from mvar_jax.data.imagenet import TRAIN_TAR, VALIDATION_TAR, class_ids, validation_ids
from mvar_jax.data.source import load_source
from tests.data.builders import encode, gradient

IDS = ["n00000001", "n00000002", "n00000003"]
JPEG = encode(gradient(20, 30), "JPEG")


def packed(members, **changes):
    """The bytes of a tar file of named contents; `changes` are made to every header."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            for field, value in changes.items():
                setattr(header, field, value)
            archive.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def classes(prefix=""):
    return {
        f"{prefix}{class_id}.tar": packed({f"{class_id}_{k}.JPEG": JPEG for k in (1, 77)})
        for class_id in reversed(IDS)
    }


def validation(count=4):
    return {f"ILSVRC2012_val_{k:08d}.JPEG": JPEG for k in reversed(range(1, count + 1))}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, "class_ids", lambda: IDS)
    monkeypatch.setattr(imagenet, "validation_ids", lambda: [IDS[k] for k in (2, 0, 0, 1)])
    monkeypatch.setattr(imagenet, "TRAIN_IMAGES", 6)
    (tmp_path / TRAIN_TAR).write_bytes(packed(classes()))
    (tmp_path / VALIDATION_TAR).write_bytes(packed(validation()))
    return tmp_path


def message(place):
    with pytest.raises(ValueError) as caught:
        load_source("imagenet", "train", str(place))
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    assert not (place / "imagenet" / "1.0.0").exists()
    return text


def test_the_official_classes_are_in_the_order_of_their_ids():
    ids = class_ids()
    assert len(ids) == 1000 and ids == sorted(set(ids))
    assert ids[0] == "n01440764" and ids[-1] == "n15075141" and ids[207] == "n02099601"
    labels = validation_ids()
    assert len(labels) == 50_000 and {labels.count(name) for name in ids[:5]} == {50}
    assert labels[0] == "n01751748"  # sea snake, the first of the published ground truth


def test_images_come_from_the_tars_with_their_classes(place):
    source = load_source("imagenet", "train", str(place))
    assert len(source) == 6 and source.class_names == tuple(IDS)
    assert sorted(int(example["label"]) for example in source) == [0, 0, 1, 1, 2, 2]
    assert source[0]["image"].shape == (20, 30, 3)
    examples = load_source("imagenet", "validation", str(place)).records.examples
    found = {example["file_name"].decode(): int(example["label"]) for example in examples}
    expected = dict(zip((f"ILSVRC2012_val_{k:08d}.JPEG" for k in range(1, 5)), (2, 0, 0, 1)))
    assert found == expected
    assert all(example["image"] == JPEG for example in examples)


def test_progress_is_shown(place, capfd):
    load_source("imagenet", "train", str(place))
    errors = capfd.readouterr().err
    assert TRAIN_TAR in errors and VALIDATION_TAR in errors and "41.0k/41.0k (00:00 left)" in errors


def test_a_prepared_copy_needs_no_tars(place):
    load_source("imagenet", "train", str(place))
    (place / TRAIN_TAR).unlink()
    assert len(load_source("imagenet", "validation", str(place))) == 4


def test_tars_may_lie_where_tfds_expects_them(place):
    folder = place / "downloads" / "manual"
    folder.mkdir(parents=True)
    for name in (TRAIN_TAR, VALIDATION_TAR):
        (place / name).rename(folder / name)
    assert len(load_source("imagenet", "train", str(place))) == 6


def test_names_may_begin_with_the_folder_itself(place):
    (place / TRAIN_TAR).write_bytes(packed(classes(prefix="./")))
    assert len(load_source("imagenet", "train", str(place))) == 6


def test_missing_tars_are_named(place):
    (place / VALIDATION_TAR).unlink()
    text = message(place)
    assert VALIDATION_TAR in text and str(place) in text and "image-net.org" in text


@pytest.mark.parametrize("name", ["../n00000001.tar", "/n00000001.tar", "evil.sh", "n1.tar"])
def test_other_names_are_refused_and_nothing_is_unpacked(place, name):
    (place / TRAIN_TAR).write_bytes(packed({name: b"content"}))
    before = sorted(os.listdir(place.parent))
    assert f"holds {name!r}, expected" in message(place)
    assert sorted(os.listdir(place.parent)) == before


def test_links_are_refused(place):
    link = packed({f"{IDS[0]}.tar": b""}, type=tarfile.SYMTYPE, linkname="/etc/passwd")
    (place / TRAIN_TAR).write_bytes(link)
    assert f"holds '{IDS[0]}.tar', expected" in message(place)


def test_images_of_another_class_or_size_are_refused(place, monkeypatch):
    content = classes() | {f"{IDS[0]}.tar": packed({f"{IDS[1]}_1.JPEG": JPEG})}
    (place / TRAIN_TAR).write_bytes(packed(content))
    assert f"holds '{IDS[1]}_1.JPEG'" in message(place)
    (place / TRAIN_TAR).write_bytes(packed(classes()))
    monkeypatch.setattr(imagenet, "MAX_BYTES", len(JPEG) - 1)
    assert "expected an image of at most" in message(place)


def test_an_unknown_class_is_refused(place):
    (place / TRAIN_TAR).write_bytes(packed({"n99999999.tar": packed({})}))
    assert "n99999999.tar is of no class" in message(place)


def test_incomplete_and_damaged_tars_are_refused(place):
    whole = (place / TRAIN_TAR).read_bytes()
    lacking = classes()
    lacking.pop(f"{IDS[1]}.tar")
    (place / TRAIN_TAR).write_bytes(packed(lacking))
    assert "holds 4 images, expected 6" in message(place)
    (place / TRAIN_TAR).write_bytes(whole[: len(whole) // 2])
    message(place)
    (place / TRAIN_TAR).write_bytes(b"no tar" * 1000)
    assert f"{TRAIN_TAR}: is damaged" in message(place)
    (place / TRAIN_TAR).write_bytes(whole)
    (place / VALIDATION_TAR).write_bytes(packed(validation(3)))
    assert "holds 3 images, expected 4" in message(place)
