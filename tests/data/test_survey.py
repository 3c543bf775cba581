"""A survey reads every record once, and remembers what it is."""

import numpy as np
import pytest

from mvar_jax.data.skipped import ALWAYS_ALLOWED
from mvar_jax.data.source import open_split
from mvar_jax.data.survey import survey_split
from tests.data.builders import BrokenPhotos, Photos, encode, gradient


def survey(name, split, directory, threads=2):
    opened, done = open_split(name, split, str(directory)), []
    found = survey_split(opened, threads, lambda: done.append(1))
    assert len(done) == len(opened.records) == len(found.labels)
    return found


@pytest.fixture
def photos(tmp_path):
    """Three cats, one a copy, and two dogs, one cut short; to validate on, a copy and a new one."""
    first, second, third = (encode(gradient(12, width)) for width in (10, 20, 30))
    files = {
        "train/cat/a.png": first,
        "train/cat/b.png": second,
        "train/cat/again.png": first,
        "train/dog/a.png": third,
        "train/dog/cut.png": encode(gradient(40, 40))[:-40],
        "train/dog/notes.txt": b"two dogs",
        "validation/dog/a.png": third,
        "validation/dog/new.png": encode(gradient(8, 8)),
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("threads", [0, 4])
def test_labels_sizes_and_damage_of_a_folder(photos, threads):
    found = survey("folder", "train", photos, threads)
    names = [found.split.records.describe(index) for index in range(5)]
    assert sorted(names) == ["cat/a.png", "cat/again.png", "cat/b.png", "dog/a.png", "dog/cut.png"]
    assert [names[index] for index in found.causes] == ["dog/cut.png"]
    assert "truncated" in found.causes[names.index("dog/cut.png")]
    assert found.sizes[names.index("cat/b.png")].tolist() == [12, 20]
    assert found.counts().tolist() == [3, 1] and found.readable.sum() == 4
    assert found.split.passed_over == ("dog/notes.txt",)


def test_more_damage_than_training_allows_is_refused(photos):
    survey("folder", "train", photos).check_readable()
    for number in range(ALWAYS_ALLOWED):
        (photos / f"train/dog/{number}.png").write_bytes(encode(gradient(40, 40))[:-40])
    with pytest.raises(ValueError, match=r"data: 11 of 15 images of .* split 'train' cannot be"):
        survey("folder", "train", photos).check_readable()


def test_copies_in_a_split_and_across_two(photos):
    train, validation = (survey("folder", split, photos) for split in ("train", "validation"))
    name = train.split.records.describe
    ((later, earlier),) = train.copies(train)
    assert earlier < later and {name(later), name(earlier)} == {"cat/a.png", "cat/again.png"}
    ((copy, of),) = validation.copies(train)
    assert validation.split.records.describe(copy) == name(of) == "dog/a.png"
    assert validation.copies(validation) == []


def test_splits_that_tfds_prepared(tmp_path):
    Photos.prepare(tmp_path)
    found = survey("photos", "train", tmp_path)
    assert sorted(found.sizes.tolist()) == [[24, 24], [30, 50], [48, 20]]
    assert found.counts().tolist() == [1, 2] and not found.split.passed_over


def test_a_split_without_any_readable_image_is_surveyed_too(tmp_path):
    BrokenPhotos.prepare(tmp_path)
    found = survey("broken_photos", "bad", tmp_path)
    assert list(found.causes) == [0] and "no image in one of" in found.causes[0]
    assert not found.counts().any() and found.copies(found) == []
    np.testing.assert_array_equal(found.readable, [False])
