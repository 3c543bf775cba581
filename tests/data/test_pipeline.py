import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

import mvar_jax
from mvar_jax.config import DataConfig
from mvar_jax.data.augment import center_crop, cover
from mvar_jax.data.pipeline import eval_batches, load_examples, train_batches
from mvar_jax.data.source import load_source
from tests.data.builders import Photos, encode

SIZE = (32, 32)


@pytest.fixture
def data(digits_directory):
    return DataConfig(
        name="digits", directory=digits_directory, augmentation="shift", num_threads=2
    )


def take(batches, count):
    iterator = iter(batches)
    return [next(iterator) for _ in range(count)]


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])


def names(images):
    """Something to tell images by."""
    return [image.tobytes() for image in images]


@pytest.mark.parametrize("augmentation", ["crop", "shift", "none"])
def test_batches_have_the_promised_shapes_types_and_ranges(data, augmentation):
    data = dataclasses.replace(data, augmentation=augmentation)
    for batch in take(train_batches(data, SIZE, 48, seed=0), 2):
        assert sorted(batch) == ["image", "label"]
        assert batch["image"].shape == (48, 32, 32, 3) and batch["image"].dtype == np.float32
        assert batch["label"].shape == (48,) and batch["label"].dtype == np.int32
        assert batch["image"].min() == -1 and 0.9 < batch["image"].max() <= 1
        assert set(batch["label"].tolist()) <= set(range(10))


def test_pixels_are_the_bytes_mapped_to_plus_minus_one(data):
    source = load_source("digits", "test", data.directory)
    batch = next(iter(eval_batches(data, SIZE, 10, split="test")))
    for image, label, example in zip(batch["image"], batch["label"], source):
        np.testing.assert_allclose(image, example["image"] / 127.5 - 1.0, atol=1e-6)
        assert label == example["label"]


def test_the_seed_decides_the_order_and_the_shifts(data):
    first = take(train_batches(data, SIZE, 32, seed=3), 3)
    assert_same(first, take(train_batches(data, SIZE, 32, seed=3), 3))
    other = take(train_batches(data, SIZE, 32, seed=4), 3)
    assert not np.array_equal(first[0]["label"], other[0]["label"])


@pytest.mark.parametrize("seed", [-1, 2**32 + 5])
def test_any_integer_is_a_seed(data, seed):
    assert_same(*[take(train_batches(data, SIZE, 4, seed=seed), 1) for _ in range(2)])


def test_threads_do_not_change_the_batches(data):
    alone = dataclasses.replace(data, num_threads=0)
    many = dataclasses.replace(data, num_threads=16)
    assert_same(
        take(train_batches(alone, SIZE, 16, seed=0), 5),
        take(train_batches(many, SIZE, 16, seed=0), 5),
    )


def test_an_epoch_holds_every_image_once_and_the_next_another_order(data):
    data = dataclasses.replace(data, augmentation="none")
    images = np.concatenate([b["image"] for b in take(train_batches(data, SIZE, 418, seed=0), 6)])
    first, second = names(images[:1254]), names(images[1254:])
    known = np.concatenate([b["image"] for b in eval_batches(data, SIZE, 418, split="train")])
    assert sorted(first) == sorted(second) == sorted(names(known))
    assert first != second and first != names(known)


def test_the_same_image_is_shifted_anew_in_every_epoch_and_at_most_that_far(data):
    data = dataclasses.replace(data, train_split="train[:1]", max_shift=1)
    plain = next(iter(eval_batches(data, SIZE, 1, split="train[:1]")))["image"][0]
    padded = np.pad(plain, ((1, 1), (1, 1), (0, 0)), mode="edge")
    moved = [padded[y : y + 32, x : x + 32] for y in range(3) for x in range(3)]
    seen = np.concatenate([b["image"] for b in take(train_batches(data, SIZE, 20, seed=0), 5)])
    assert set(names(seen)) == set(names(moved))


def test_state_restores_the_iterator_exactly_within_an_epoch_and_over_its_end(data):
    batches = train_batches(data, SIZE, 100, seed=1)
    iterator = iter(batches)
    for _ in range(11):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = [next(iterator) for _ in range(4)]
    resumed = iter(train_batches(dataclasses.replace(data, num_threads=0), SIZE, 100, seed=1))
    resumed.set_state(state)
    assert_same(expected, [next(resumed) for _ in range(4)])
    iterator.set_state(state)
    assert_same(expected[:1], [next(iterator)])


def test_the_iterator_can_be_part_of_an_orbax_checkpoint(data, tmp_path):
    iterator = iter(train_batches(data, SIZE, 64, seed=2))
    for _ in range(3):
        next(iterator)
    with ocp.training.Checkpointer(tmp_path) as checkpointer:
        checkpointer.save_checkpointables(3, {"params": {"w": jnp.ones(2)}, "data": iterator})
    expected = [next(iterator) for _ in range(2)]
    resumed = iter(train_batches(data, SIZE, 64, seed=2))
    with ocp.training.Checkpointer(tmp_path) as checkpointer:
        checkpointer.load_checkpointables(3, {"params": {"w": jnp.zeros(2)}, "data": resumed})
    assert_same(expected, [next(resumed) for _ in range(2)])


def test_evaluation_goes_once_through_the_split_in_order_and_keeps_the_rest(data):
    batches = list(eval_batches(data, SIZE, 100, split="test"))
    assert [len(batch["label"]) for batch in batches] == [100, 100, 100, 64]
    labels = np.concatenate([batch["label"] for batch in batches])
    source = load_source("digits", "test", data.directory)
    assert labels.tolist() == [example["label"] for example in source]
    assert_same(batches, list(eval_batches(data, SIZE, 100, split="test")))


def test_photos_of_any_size_are_resized_and_cropped_as_the_official_recipe_does(tmp_path):
    Photos.prepare(tmp_path)
    data = DataConfig(name="photos", directory=str(tmp_path), num_threads=0)
    source = load_source("photos", "train", str(tmp_path))
    batch = next(iter(eval_batches(data, (16, 16), 3, split="train")))
    for image, example in zip(batch["image"], source):
        middle = center_crop(cover(example["image"], (18, 18)), (16, 16))
        np.testing.assert_allclose(image, middle / 127.5 - 1.0, atol=1e-6)
    crops = np.concatenate([b["image"] for b in take(train_batches(data, (16, 16), 30, seed=0), 2)])
    assert crops.shape == (60, 16, 16, 3) and len(set(names(crops))) > 20


def test_images_need_not_be_square(tmp_path):
    Photos.prepare(tmp_path)
    data = DataConfig(name="photos", directory=str(tmp_path), num_threads=0)
    batch = next(iter(eval_batches(data, (8, 24), 3, split="train")))
    assert batch["image"].shape == (3, 8, 24, 3)


@pytest.mark.parametrize("augmentation", ["shift", "none"])
def test_images_of_another_size_are_refused_before_the_first_batch_unless_cropped(
    data, augmentation
):
    data = dataclasses.replace(data, augmentation=augmentation)
    for make in (
        lambda: train_batches(data, (16, 16), 4, seed=0),
        lambda: eval_batches(data, (16, 16), 4, split="test"),
        lambda: load_examples(data, (16, 16)),
    ):
        with pytest.raises(ValueError, match=r"has .* \(32, 32\), expected \(16, 16\); set"):
            make()


def test_examples_that_are_at_hand_are_not_opened_again(data):
    source = load_examples(data, SIZE)
    elsewhere = dataclasses.replace(data, directory="/nowhere")
    assert_same(
        take(train_batches(elsewhere, SIZE, 16, seed=0, source=source), 2),
        take(train_batches(data, SIZE, 16, seed=0), 2),
    )


def damaged(folder, count, bad):
    """A folder of images of one colour each; the bad ones are cut short."""
    (folder / "train" / "cat").mkdir(parents=True)
    (folder / "validation" / "cat").mkdir(parents=True)
    for index in range(count):
        content = encode(np.full((32, 32, 3), index, np.uint8))
        content = content[:60] if index in bad else content
        (folder / "train" / "cat" / f"{index:03d}.png").write_bytes(content)
    return DataConfig(name="folder", directory=str(folder), augmentation="none", num_threads=2)


def colours(batches):
    return [round((float(image[0, 0, 0]) + 1) * 127.5) for b in batches for image in b["image"]]


def test_others_take_the_place_of_images_that_cannot_be_read_and_the_order_stays(tmp_path, caplog):
    whole, bad = damaged(tmp_path / "whole", 20, ()), (3, 11)
    some = damaged(tmp_path / "some", 20, bad)
    expected = colours(take(train_batches(whole, SIZE, 10, seed=0), 4))
    found = colours(take(train_batches(some, SIZE, 10, seed=0), 4))
    assert sum(colour in bad for colour in expected) == 4
    for wanted, got in zip(expected, found):
        assert got == wanted if wanted not in bad else got not in bad
    assert caplog.text.count("skipped cat/003.png") == caplog.text.count("cat/011.png") == 1


def test_resuming_over_images_that_cannot_be_read_is_exact(tmp_path):
    data = damaged(tmp_path, 20, (3, 11))
    iterator = iter(train_batches(data, SIZE, 6, seed=0))
    for _ in range(2):
        next(iterator)
    state, expected = iterator.get_state(), [next(iterator) for _ in range(4)]
    resumed = iter(train_batches(dataclasses.replace(data, num_threads=0), SIZE, 6, seed=0))
    resumed.set_state(json.loads(json.dumps(state)))
    assert_same(expected, [next(resumed) for _ in range(4)])


def test_too_many_images_that_cannot_be_read_end_the_pipeline(tmp_path):
    data = damaged(tmp_path, 150, range(11))
    with pytest.raises(ValueError, match=r"11 of 150 images of .* cannot be read, .*cat/003\.png"):
        list(eval_batches(data, SIZE, 50, split="train"))


WITH_WORKERS = """
import json
import sys
from dataclasses import replace

import numpy as np

from mvar_jax.config import DataConfig
from mvar_jax.data.pipeline import train_batches

if __name__ == "__main__":
    alone = DataConfig(name="folder", directory=sys.argv[1], num_threads=2)
    iterator = iter(train_batches(alone, (32, 32), 6, seed=0))
    expected = [next(iterator)["image"] for _ in range(7)]
    by_workers = train_batches(replace(alone, num_workers=2), (32, 32), 6, seed=0)
    iterator = iter(by_workers)
    found = [next(iterator)["image"] for _ in range(5)]
    resumed = iter(by_workers)
    resumed.set_state(json.loads(json.dumps(iterator.get_state())))
    found += [next(resumed)["image"] for _ in range(2)]
    np.testing.assert_array_equal(found, expected)
"""


@pytest.mark.slow
def test_worker_processes_change_nothing_resume_exactly_and_warn(tmp_path):
    damaged(tmp_path / "data", 20, (3, 11))
    program = tmp_path / "program.py"
    program.write_text(WITH_WORKERS)
    environment = {**os.environ, "PYTHONPATH": str(Path(mvar_jax.__file__).parents[1])}
    command = [sys.executable, program, tmp_path / "data"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    warnings = result.stderr.count("skipped cat/003.png")
    assert warnings >= 3, result.stderr  # of this process, and of two others
