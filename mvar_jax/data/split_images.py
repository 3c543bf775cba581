"""The images of a dataset's split as a set to measure: the middle of each, in a model's size."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import grain
import numpy as np

from mvar_jax.config import DataConfig
from mvar_jax.data.pipeline import eval_records


@dataclass(frozen=True)
class SplitImages:
    """The first `count` images of a split (see `image_sets.ImageSet`), at most all.

    Where training crops, images are resized until their short side is that of `size`, and the
    middle is taken: none of the border that random crops need.
    """

    data: DataConfig
    split: str
    size: tuple[int, int]
    count: int

    @classmethod
    def open(
        cls, data: DataConfig, split: str, size: tuple[int, int], most: int | None
    ) -> "SplitImages":
        """At most `most` images, all for None. Raises ValueError as `eval_records` does."""
        data = replace(data, tokens="", validation_tokens="", resize_ratio=1.0)
        count = len(eval_records(data, size, split))
        return cls(data, split, size, count if most is None else min(most, count))

    def name(self, index: int) -> str:
        """The split and the image's number."""
        return f"{self.data.name} split {self.split!r}, image {index}"

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Decodes by as many threads as the data say."""
        records = eval_records(self.data, self.size, self.split)[: self.count]
        ahead = grain.ReadOptions(num_threads=self.data.num_threads, prefetch_buffer_size=size)
        images = records.map(lambda record: record["image"]).to_iter_dataset(ahead)
        yield from images.batch(size)
