"""A small classifier of real images that judges generated ones."""

from collections.abc import Callable

import numpy as np
from PIL import Image
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from mvar_jax.array_types import Bool, Float, HostArray, Int
from mvar_jax.checks import check
from mvar_jax.evaluation.gradient_histograms import gradient_histograms

SIDE = 16
SMALL = 32  # pixels along the longer side up to which images are compared pixel by pixel


class ImageClassifier:
    """A scikit-learn MLP (128 and 64 hidden units) on features of an image.

    Unless others are given, the features are the grey image averaged to 16x16 for images of up to
    `SMALL` pixels, and gradient histograms for larger ones, whose objects may have any position and
    colour. For small labelled image sets. It is fitted on real images only, independently of the
    tokenizer and the model that it judges, with a fixed seed.
    """

    def __init__(
        self,
        images: Float[HostArray, "batch height width_px 3"],
        labels: Int[HostArray, "batch"],
        features: Callable[[HostArray], np.ndarray] | None = None,
    ):
        """Fits the classifier to images in [-1, 1] and their labels, which takes seconds.

        `features` takes images and returns what the network sees of them, [batch, features].
        Raises ValueError when there are not as many labels as images, or fewer than two classes.
        """
        labels = _matching(images, labels)
        check(
            len(np.unique(labels)) > 1,
            f"evaluation: got images of {len(np.unique(labels))} class, expected at least two to "
            "tell apart; choose a split with more.",
        )
        self._inputs = features or _inputs
        # Fitting ends when the loss no longer falls, well before max_iter.
        self._network = MLPClassifier(
            hidden_layer_sizes=(128, 64),
            alpha=1e-4 if _is_small(images) else 1.0,
            random_state=0,
            max_iter=1000,
        )
        # Threads cost such small matrices up to ten times what they save.
        with threadpool_limits(limits=1, user_api="blas"):
            self._network.fit(self._inputs(images), labels)

    def predict(
        self, images: Float[HostArray, "batch height width_px 3"]
    ) -> Int[np.ndarray, "batch"]:
        """The most probable label of each image in [-1, 1]."""
        return self._network.predict(self._inputs(images))

    def accuracy(
        self,
        images: Float[HostArray, "batch height width_px 3"],
        labels: Int[HostArray, "batch"],
    ) -> float:
        """The share of images in [-1, 1], from 0 to 1, that are recognised as their labels."""
        return float(np.mean(self.matches(images, labels)))

    def matches(
        self,
        images: Float[HostArray, "batch height width_px 3"],
        labels: Int[HostArray, "batch"],
    ) -> Bool[np.ndarray, "batch"]:
        """Which of the images in [-1, 1] are recognised as their labels."""
        return self.predict(images) == _matching(images, labels)

    def features(
        self, images: Float[HostArray, "batch height width_px 3"]
    ) -> Float[np.ndarray, "batch features"]:
        """The activations of the last hidden layer, float64 [batch, 64], of images in [-1, 1]."""
        hidden = self._inputs(images)
        for weights, bias in zip(self._network.coefs_[:-1], self._network.intercepts_[:-1]):
            hidden = np.maximum(hidden @ weights + bias, 0)
        return hidden


def _is_small(images: HostArray) -> bool:
    return max(images.shape[1:3]) <= SMALL


def _inputs(images: HostArray) -> np.ndarray:
    """The network's inputs: float64 [batch, features]."""
    if _is_small(images):
        return _grey_pixels(images)
    return gradient_histograms(images).astype(np.float64)


def _grey_pixels(images: HostArray) -> np.ndarray:
    """Grey values in [0, 1], averaged over areas: float64 [batch, SIDE * SIDE]."""
    grey = (np.asarray(images, np.float32).mean(axis=-1) + 1) / 2
    size = (SIDE, SIDE)
    small = (Image.fromarray(one).resize(size, Image.Resampling.BOX) for one in grey)
    stacked = np.stack([np.asarray(image) for image in small])
    return stacked.reshape(len(grey), -1).astype(np.float64)


def _matching(images: HostArray, labels: HostArray) -> np.ndarray:
    check(
        len(images) == len(labels) > 0,
        f"evaluation: got {len(images)} images and {len(labels)} labels, expected one for each "
        "image and at least one.",
    )
    return np.asarray(labels)
