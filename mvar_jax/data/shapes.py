"""A TFDS dataset of rendered scenes: ten kinds of objects, at any resolution."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow_datasets as tfds
from PIL import Image

from mvar_jax.checks import check_range
from mvar_jax.data.scenes import CLASSES, draw_scene, render

SEEDS = {"train": 0, "validation": 1, "test": 2}  # every split is a series of its own
TRAIN_IMAGES = 20_000
TRAIN_PIXELS = 2**30  # larger images are fewer
SIDES = (8, 1024)


@dataclass(eq=False, kw_only=True)
class ShapesConfig(tfds.core.BuilderConfig):
    """The side of the images in pixels, and how many the training split has."""

    side: int
    train_images: int

    @classmethod
    def parse(cls, name: str) -> "ShapesConfig":
        """From "64" (pixels) or "64-500" (pixels, training images; any from 20 on).

        Raises ValueError for other names and sides out of range.
        """
        found = re.fullmatch(r"([1-9]\d{0,5})(?:-([1-9]\d{0,8}))?", name)
        if not found:
            raise ValueError(
                f"data.name: got 'shapes/{name}', expected a side in pixels, as in 'shapes/64', "
                "and perhaps a number of training images, as in 'shapes/64-500'."
            )
        side = int(found[1])
        check_range("data.name: the side of shapes", side, *SIDES)
        most = min(TRAIN_IMAGES, TRAIN_PIXELS // side**2)
        train_images = int(found[2] or most)
        check_range("data.name: the number of training images of shapes", train_images, 20, 10**8)
        return cls(name=name, side=side, train_images=train_images)

    def images(self, split: str) -> int:
        """The number of images in a split: validation and test are a twentieth of train."""
        return self.train_images if split == "train" else max(10, self.train_images // 20)


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Rendered scenes with one of ten objects each, equally many of every class.

    A config names the side in pixels, 8 to 1024, and perhaps the number of training images:
    "64", "256-1000". The scenes are the same at every resolution, and a smaller dataset holds
    the first of a larger one. Nothing is downloaded.
    """

    VERSION = tfds.core.Version("1.0.0")

    @classmethod
    def get_builder_config(cls, name: str, version: object = None) -> ShapesConfig:
        """The config of a name; any that can be parsed exists. Raises ValueError for others."""
        return ShapesConfig.parse(name)

    def _info(self) -> tfds.core.DatasetInfo:
        side = self.builder_config.side
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=list(CLASSES)),
                "id": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="Rendered scenes of one object on a patterned ground.",
            features=features,
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager) -> dict:
        return {split: self._generate_examples(split) for split in SEEDS}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        config = self.builder_config
        for index in range(config.images(split)):
            scene = draw_scene(SEEDS[split], index)
            image = Image.fromarray(render(scene, config.side))
            buffer = io.BytesIO()
            image.save(buffer, "PNG", compress_level=3)
            name = f"{split}_{index:06d}"
            yield name, {"image": buffer.getvalue(), "label": scene.label, "id": name}
