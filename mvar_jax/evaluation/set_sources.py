"""Where a set of images comes from: files, or a split of the data that a model was trained on."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from mvar_jax.data.image_sets import ImageSet, digest, holds_images, open_images
from mvar_jax.data.split_images import SplitImages
from mvar_jax.evaluation.set_statistics import SetStatistics, load_statistics, stored_size
from mvar_jax.networks.features import FeatureNetwork

BATCH = 64  # images in memory while they are only looked at


@runtime_checkable
class SetSource(Protocol):
    """A set of images, statistics of one, or both."""

    @property
    def name(self) -> str:
        """What a user calls it."""

    def stored(self, network: FeatureNetwork) -> SetStatistics | None:
        """Statistics of a network that are there already. Raises ValueError for unfit ones."""

    def images(self) -> ImageSet | None:
        """The images, if there are any. Raises ValueError for what is wrong with them."""

    def size(self) -> tuple[int, int] | None:
        """(height, width) of the images in pixels, as far as it is known."""

    def digest(self) -> str:
        """The SHA-256 of what the set is made of."""


@dataclass(frozen=True)
class FileSource:
    """A folder of images, or an .npz of images, of statistics or of both."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def stored(self, network: FeatureNetwork) -> SetStatistics | None:
        """The statistics of the .npz, as `load_statistics`."""
        return None if self.path.is_dir() else load_statistics(self.path, network)

    def images(self) -> ImageSet | None:
        """Those of the folder or of the .npz, as `open_images`."""
        return open_images(self.path) if holds_images(self.path) else None

    def size(self) -> tuple[int, int] | None:
        """That of the images, or what the statistics say."""
        images = self.images()
        return stored_size(self.path) if images is None else images.size

    def digest(self) -> str:
        """That of the file, or of the names and contents of the folder's images."""
        return digest(self.path)


@dataclass(frozen=True)
class SplitSource:
    """A split of a run's data, its images as the run's model has them.

    Its images are decoded once for each network that measures them, and not again for the digest.
    """

    name: str
    split: SplitImages

    def stored(self, network: FeatureNetwork) -> None:
        """There are none."""

    def images(self) -> ImageSet:
        """All images of the split."""
        return self._hashed

    @cached_property
    def _hashed(self) -> "HashedImages":
        return HashedImages(self.split)

    def size(self) -> tuple[int, int]:
        """That of the model."""
        return self.split.size

    def digest(self) -> str:
        """That of all pixels; see `HashedImages.digest`."""
        return self._hashed.digest()


class HashedImages:
    """An image set whose digest is found while its images are read for something else."""

    def __init__(self, images: ImageSet):
        self._images, self._digest = images, ""

    @property
    def count(self) -> int:
        """How many there are."""
        return self._images.count

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self._images.size

    def name(self, index: int) -> str:
        """What a user finds an image by."""
        return self._images.name(index)

    def batches(self, size: int) -> Iterator[UInt8[np.ndarray, "_ height width_px 3"]]:
        """The images; the digest is known when the last one has been read."""
        found = hashlib.sha256()
        for batch in self._images.batches(size):
            found.update(batch.tobytes())
            yield batch
        self._digest = found.hexdigest()

    def digest(self) -> str:
        """The SHA-256 of all pixels, uint8 [images, height, width, 3] in C order.

        Reads the images unless they have been read to their end.
        """
        if not self._digest:
            for _ in self.batches(BATCH):
                pass
        return self._digest
