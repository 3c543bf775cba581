"""Judges class-conditional samples by a classifier: label accuracy and Fréchet distance."""

from dataclasses import dataclass

import numpy as np

from mvar_jax.array_types import Float, HostArray, Int
from mvar_jax.config import Config
from mvar_jax.data.pipeline import eval_batches
from mvar_jax.evaluation.classifier import ImageClassifier
from mvar_jax.evaluation.frechet import frechet_distance

WHOLE_SPLIT = 2**20  # more than a small dataset has


@dataclass(frozen=True)
class RealImages:
    """A split of real images, float32 `[batch, height, width, 3]` in [-1, 1], and its labels."""

    images: np.ndarray
    labels: np.ndarray

    @classmethod
    def load(cls, config: Config, split: str) -> "RealImages":
        """All images of a split, as the config's tokenizer takes them."""
        size = config.tokenizer.image_size
        batch = next(iter(eval_batches(config.data, size, WHOLE_SPLIT, split=split)))
        return cls(np.asarray(batch["image"]), np.asarray(batch["label"]))


class ClassConditionalJudge:
    """Judges samples by a classifier of real training images, against real test images.

    The classifier is fitted on the training split only; distances are between activations of its
    last hidden layer.
    """

    def __init__(self, train: RealImages, test: RealImages):
        """Fits the classifier, which takes seconds. Raises ValueError for unusable splits."""
        self._test = test
        self._classifier = ImageClassifier(train.images, train.labels)
        self._test_features = self._classifier.features(test.images)
        self._train_features = self._classifier.features(train.images)

    @classmethod
    def of(cls, config: Config) -> "ClassConditionalJudge":
        """A judge from the training and validation images of a config."""
        splits = (config.data.train_split, config.data.validation_split)
        return cls(*(RealImages.load(config, split) for split in splits))

    def real(self) -> dict[str, float]:
        """The figures of real images: accuracy on the test split, distance of train from test."""
        accuracy = self._classifier.accuracy(self._test.images, self._test.labels)
        distance = frechet_distance(self._train_features, self._test_features)
        return {"label_accuracy_real": accuracy, "frechet_real": distance}

    def accuracy(
        self,
        images: Float[HostArray, "batch height width_px 3"],
        labels: Int[HostArray, "batch"],
    ) -> float:
        """Share of samples that are recognised as the label they were sampled for."""
        return self._classifier.accuracy(images, labels)

    def frechet(self, images: Float[HostArray, "batch height width_px 3"]) -> float:
        """Fréchet distance of samples from the real test images."""
        return frechet_distance(self._classifier.features(images), self._test_features)
