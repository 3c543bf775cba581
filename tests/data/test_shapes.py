import io

import numpy as np
import pytest
from PIL import Image

from mvar_jax.data.patterns import PATTERNS
from mvar_jax.data.scenes import CLASSES, draw_scene, render
from mvar_jax.data.shapes import SEEDS, Shapes, ShapesConfig
from mvar_jax.data.source import load_source

SPLITS = ("train", "validation", "test")
NAME = "shapes/16-40"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    place = str(tmp_path_factory.mktemp("tfds"))
    load_source(NAME, "train", place)
    return place


def averaged(image, side):
    factor = len(image) // side
    return image.reshape(side, factor, side, factor, 3).mean(axis=(1, 3))


def test_the_image_of_a_seed_and_an_index_is_always_the_same():
    for index in range(10):
        first, second = (render(draw_scene(3, index), 32) for _ in range(2))
        np.testing.assert_array_equal(first, second)


def test_other_seeds_and_indices_give_other_images():
    images = [
        render(draw_scene(seed, index), 16) for seed in range(3) for index in range(0, 60, 10)
    ]
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.parametrize("name", CLASSES)
def test_a_small_image_is_the_large_one_averaged(name):
    for index in range(CLASSES.index(name), 60, 10):
        scene = draw_scene(0, index)
        small, large = render(scene, 64), averaged(render(scene, 256), 64)
        error = np.abs(small - large)
        assert error.mean() < 2 and np.sqrt((error**2).mean()) < 6  # of 255


@pytest.mark.parametrize("side", [8, 31, 200])
def test_any_side_can_be_rendered(side):
    image = render(draw_scene(0, 4), side)
    assert image.shape == (side, side, 3) and image.dtype == np.uint8


def test_images_use_the_range_without_saturating():
    images = np.stack([render(draw_scene(0, index), 32) for index in range(100)])
    assert images.min() < 20 and images.max() > 235
    assert ((images == 0) | (images == 255)).mean() < 0.03
    assert 70 < images.mean() < 180


def test_what_is_free_is_really_used():
    scenes = [draw_scene(0, index) for index in range(200)]
    assert {scene.object.pattern for scene in scenes} == set(PATTERNS)
    assert len({scene.ground.pattern for scene in scenes}) == 3
    for values in (
        [scene.center[0] for scene in scenes],
        [scene.center[1] for scene in scenes],
        [scene.radius for scene in scenes],
        [scene.angle for scene in scenes],
        [scene.object.colors[0, 0] for scene in scenes],
        [scene.ground.colors[0, 0] for scene in scenes],
    ):
        assert np.std(values) > 0.05


@pytest.mark.parametrize("name", CLASSES)
def test_the_object_lies_inside_and_stands_out(name):
    for index in range(CLASSES.index(name), 100, 10):
        scene = draw_scene(1, index)
        assert np.abs(scene.center).max() + scene.radius <= 1
        apart = np.abs(scene.object.colors[0] - scene.ground.colors[0])
        assert apart.max() > 0.1


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_repeat_and_stay_between_zero_and_one(name):
    places = (np.arange(64, dtype=np.float32) + 0.5) / 64
    y, x = np.meshgrid(places, places, indexing="ij")
    values = PATTERNS[name](x, y, 1 / 64)
    assert values.min() >= 0 and values.max() <= 1
    np.testing.assert_allclose(PATTERNS[name](x + 3, y - 2, 1 / 64), values, atol=1e-4)
    if name in ("stripes", "checks"):
        assert values.mean() == pytest.approx(0.5, abs=0.01)


def test_every_split_is_a_series_of_its_own():
    assert len(set(SEEDS.values())) == len(SPLITS) == len(SEEDS)


def test_splits_hold_disjoint_images_and_every_class_equally_often(directory):
    sources = {split: load_source(NAME, split, directory) for split in SPLITS}
    assert [len(sources[split]) for split in SPLITS] == [40, 10, 10]
    seen = [example["image"].tobytes() for source in sources.values() for example in source]
    assert len(set(seen)) == 60
    for source in sources.values():
        counts = np.bincount([example["label"] for example in source], minlength=10)
        assert len(set(counts)) == 1 and source.class_names == CLASSES


def test_records_are_the_rendered_scenes_as_png(directory):
    builder = Shapes(data_dir=directory, config="16-40", file_format="array_record")
    for example in builder.as_data_source("test"):
        split, index = example["id"].decode().split("_")
        scene = draw_scene(SEEDS[split], int(index))
        np.testing.assert_array_equal(example["image"], render(scene, 16))
        assert example["label"] == scene.label
    raw = next(iter(builder._generate_examples("test")))[1]["image"]
    assert Image.open(io.BytesIO(raw)).format == "PNG"


def test_larger_images_are_fewer():
    parse = ShapesConfig.parse
    assert [parse(side).train_images for side in ("64", "256", "1024")] == [20_000, 16_384, 1024]
    assert parse("64").images("test") == 1000
    assert (parse("96-500").side, parse("96-500").train_images) == (96, 500)


@pytest.mark.parametrize("name", ["", "x", "64x64", "064", "64-", "64-500-1", "2048", "7", "64-3"])
def test_other_sizes_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"data.name: .*shapes.*, expected") as error:
        load_source(f"shapes/{name}", "train", str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_name_without_a_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a side in pixels, as in 'shapes/64'"):
        load_source("shapes", "train", str(tmp_path))
