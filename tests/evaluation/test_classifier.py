import numpy as np
import pytest

from mvar_jax.config import DataConfig
from mvar_jax.data.pipeline import eval_batches
from mvar_jax.data.scenes import draw_scene, render
from mvar_jax.evaluation.classifier import ImageClassifier


@pytest.fixture(scope="module")
def splits(digits_directory):
    data = DataConfig("digits", digits_directory, augmentation="none", num_threads=0)
    return {
        split: next(iter(eval_batches(data, (32, 32), 2000, split=split)))
        for split in ("train", "test")
    }


@pytest.fixture(scope="module")
def classifier(splits):
    return ImageClassifier(splits["train"]["image"], splits["train"]["label"])


def test_it_recognises_real_digits_that_it_has_not_seen(classifier, splits):
    assert classifier.accuracy(splits["test"]["image"], splits["test"]["label"]) > 0.96
    shifted = (splits["test"]["label"] + 1) % 10
    assert classifier.accuracy(splits["test"]["image"], shifted) < 0.04


def test_it_recognises_objects_anywhere_in_any_colour():
    train, test = (
        [render(draw_scene(seed, index), 64) for index in range(count)]
        for seed, count in ((0, 1000), (1, 200))
    )
    scaled = [np.stack(images).astype(np.float32) / 127.5 - 1 for images in (train, test)]
    classifier = ImageClassifier(scaled[0], np.arange(1000) % 10)
    assert classifier.accuracy(scaled[1], np.arange(200) % 10) > 0.75


def test_noise_is_not_recognised_as_one_class_each(classifier):
    noise = np.random.default_rng(0).uniform(-1, 1, (200, 32, 32, 3)).astype(np.float32)
    labels = np.arange(200) % 10
    assert classifier.accuracy(noise, labels) < 0.3


def test_features_are_the_layer_that_the_classes_are_read_from(classifier, splits):
    images = splits["test"]["image"][:50]
    features = classifier.features(images)
    assert features.shape == (50, 64) and features.dtype == np.float64 and features.min() == 0
    logits = features @ classifier._network.coefs_[-1] + classifier._network.intercepts_[-1]
    np.testing.assert_array_equal(logits.argmax(axis=1), classifier.predict(images))


def test_any_small_set_of_images_will_do():
    generator = np.random.default_rng(0)
    labels = np.repeat([4, 7], 20)
    images = generator.normal(0, 0.1, (40, 24, 40, 3)).astype(np.float32)
    images[labels == 7, :12] += 0.8
    classifier = ImageClassifier(images, labels)
    assert classifier.accuracy(images, labels) == 1
    assert set(classifier.predict(images).tolist()) == {4, 7}


def test_fitting_again_gives_the_same_classifier():
    generator = np.random.default_rng(1)
    images = generator.uniform(-1, 1, (30, 16, 16, 3)).astype(np.float32)
    labels = np.arange(30) % 3
    first, second = (ImageClassifier(images, labels).features(images) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_what_cannot_be_told_apart_is_refused():
    images = np.zeros((3, 16, 16, 3), np.float32)
    with pytest.raises(ValueError, match="1 class, expected at least two"):
        ImageClassifier(images, np.zeros(3, np.int32))
    with pytest.raises(ValueError, match="0 images and 0 labels"):
        ImageClassifier(images[:0], np.zeros(0, np.int32))
