"""Small TFDS datasets, as somebody else may have prepared them."""

import contextlib
import io
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def encode(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def gradient(height, width):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 5, rows + columns], axis=-1).astype(np.uint8)


class Elsewhere(tfds.core.GeneratorBasedBuilder):
    """Subclasses say which examples; `prepare` writes them without progress bars."""

    VERSION = tfds.core.Version("1.0.0")
    SKIP_REGISTERING = True
    FEATURES: ClassVar = {"label": tfds.features.ClassLabel(names=["cat", "dog"])}
    SPLITS: ClassVar = {}

    def _info(self):
        features = {"image": tfds.features.Image(shape=(None, None, 3))} | self.FEATURES
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {name: enumerate(examples) for name, examples in self.SPLITS.items()}

    def _generate_examples(self):
        raise NotImplementedError

    @classmethod
    def prepare(cls, directory):
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):
            cls(data_dir=directory, file_format="array_record").download_and_prepare()


class Photos(Elsewhere):
    SPLITS: ClassVar = {
        "train": [
            {"image": encode(gradient(30, 50), "JPEG"), "label": 1},
            {"image": encode(gradient(48, 20)[..., 0]), "label": 0},
            {"image": encode(gradient(24, 24)), "label": 1},
        ]
    }


class BrokenPhotos(Elsewhere):
    SPLITS: ClassVar = {
        "train": [{"image": encode(gradient(16, 16)), "label": 0}] * 3,
        "bad": [{"image": b"this is no image", "label": 0}],
        "cut": [{"image": encode(gradient(16, 16))[:60], "label": 0}],
    }


class Captions(Elsewhere):
    FEATURES: ClassVar = {"text": tfds.features.Text()}
    SPLITS: ClassVar = {"train": [{"image": encode(gradient(8, 8)), "text": "a cat"}]}
