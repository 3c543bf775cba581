"""A TFDS dataset of handwritten digits, made from the images that ship with scikit-learn."""

import io
from collections import Counter
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

IMAGE_SIDE = 32
SPLIT_PATTERN = ("test", "train", "train", "train", "validation") + ("test",) + ("train",) * 4


class Digits(tfds.core.GeneratorBasedBuilder):
    """1797 handwritten digits of 32x32 pixels (UCI optdigits, NIST forms; 8x8 originals).

    Every ten successive images of a class go to the splits in the order of `SPLIT_PATTERN`, so
    the splits are the same on every machine, keep the classes' shares, and hold the same
    writers: train 1254, validation 179, test 364 images. Nothing is downloaded.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(
                    shape=(IMAGE_SIDE, IMAGE_SIDE, 3), encoding_format="png"
                ),
                "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                "id": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of scikit-learn, resized to 32x32 pixels.",
            features=features,
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager) -> dict:
        return {split: self._generate_examples(split) for split in sorted(set(SPLIT_PATTERN))}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        digits = load_digits()
        seen: Counter[int] = Counter()
        for index, (pixels, label) in enumerate(zip(digits.images, digits.target.tolist())):
            if SPLIT_PATTERN[seen[label] % len(SPLIT_PATTERN)] == split:
                name = f"digit_{index:04d}"
                yield name, {"image": encode_digit(pixels), "label": label, "id": name}
            seen[label] += 1


def encode_digit(pixels: np.ndarray) -> bytes:
    """The bytes of a 32x32 RGB PNG, by bicubic resizing, of 8x8 grey values from 0 to 16.

    Encoded here because TFDS writes an image given as an array only where TensorFlow is.
    """
    grey = Image.fromarray(np.round(pixels * (255 / 16)).astype(np.uint8))
    resized = grey.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC).convert("RGB")
    buffer = io.BytesIO()
    resized.save(buffer, "PNG")
    return buffer.getvalue()
