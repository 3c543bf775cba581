"""The crops of images that are tokenized: a function of the image's index in its split only."""

from functools import partial

import grain
import numpy as np

from mvar_jax.array_types import Example
from mvar_jax.checks import check
from mvar_jax.config import DataConfig
from mvar_jax.data.image_source import ImageSource
from mvar_jax.data.pipeline import augment, center


class CropSource:
    """The crops of every image by index, `None` for one that cannot be read.

    `source[i]` is `{"image": uint8 [crops, height, width, 3], "label": int32}`. One crop is the
    middle, several are drawn as `data.augmentation` says, from `seed` and the index. Raises
    ValueError for several crops that would all be the same.
    """

    def __init__(
        self,
        source: ImageSource,
        data: DataConfig,
        image_size: tuple[int, int],
        *,
        crops: int,
        seed: int,
    ):
        check(crops >= 1, f"--crops: got {crops}, expected at least 1.")
        check(
            crops == 1 or data.augmentation != "none",
            f"--crops: got {crops} with data.augmentation='none', expected 1, as all would be the "
            "same.",
        )
        self._source, self._data, self._size = source, data, image_size
        self._crops, self._seed = crops, seed

    def __len__(self) -> int:
        return len(self._source)

    def __repr__(self) -> str:
        return f"CropSource({self._source!r}, {self._crops} crops)"

    def __getitem__(self, index: int) -> Example | None:
        example = self._source.read(index)
        if example is None:
            return None
        if self._crops == 1:
            made = [center(example, self._data, self._size)]
        else:
            generator = np.random.default_rng((self._seed, index))
            prepare = partial(augment, data=self._data, image_size=self._size)
            made = [prepare(example, generator) for _ in range(self._crops)]
        return example | {"image": np.stack([crop["image"] for crop in made])}

    def batches(self, start: int, stop: int, batch_size: int) -> grain.IterDataset:
        """The crops of images `start` to `stop`, in batches of at most `batch_size` images."""
        threads = self._data.num_threads
        ahead = grain.ReadOptions(
            num_threads=threads, prefetch_buffer_size=max(batch_size, threads)
        )
        records = grain.MapDataset.source(self)[start:stop]
        return records.to_iter_dataset(ahead).batch(batch_size)
