"""Batches of several aspect ratios: each batch holds one, drawn by how many images there are."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np

from mvar_jax.checks import check
from mvar_jax.data.caption_lines import CaptionLines
from mvar_jax.data.image_source import ImageSource

Batch = dict[str, np.ndarray]


class AspectBatches(Iterator[Batch]):
    """Endless batches from number `first` on, of several sources in turn.

    `read(source, first)` gives the batches of one source from its own number `first` on; `counts`
    are the images of every source. In each epoch every source gives all of its whole batches, in an
    order that follows from `seed` and the epoch alone: the same on all hosts, and found again from
    the number of the next batch.
    """

    def __init__(
        self,
        read: Callable[[int, int], grain.IterDataset],
        counts: Sequence[int],
        batch_size: int,
        *,
        seed: int,
        first: int,
    ):
        self._read, self._seed, self._next = read, seed, first
        self._batches = np.array(counts) // batch_size
        check(
            bool((self._batches > 0).any()),
            f"data.aspects: got {list(counts)} images by aspect ratio, expected at least a batch "
            f"of {batch_size} of one.",
        )
        self._iterators: dict[int, Any] = {}

    def __next__(self) -> Batch:
        source, number = self.place(self._next)
        if source not in self._iterators:
            self._iterators[source] = iter(self._read(source, number))
        self._next += 1
        return next(self._iterators[source])

    def place(self, number: int) -> tuple[int, int]:
        """The source of a batch, and the batch's number there."""
        epoch, position = divmod(number, int(self._batches.sum()))
        order = np.repeat(np.arange(len(self._batches)), self._batches)
        order = np.random.default_rng((self._seed, epoch)).permutation(order)
        source = int(order[position])
        before = int((order[:position] == source).sum())
        return source, epoch * int(self._batches[source]) + before

    def close(self) -> None:
        """Ends the threads and processes that read."""
        for iterator in self._iterators.values():
            iterator.close()


def by_aspect(source: ImageSource, ratios: Sequence[float]) -> list[ImageSource]:
    """The images of a source by the nearest of these ratios, height / width.

    Sources without an image are left empty, and give no batch.
    """
    records = source.records
    assert isinstance(records, CaptionLines)
    nearest = np.abs(records.ratios[:, None] - np.array(ratios)).argmin(axis=1)
    parts = [records.subset(np.flatnonzero(nearest == place)) for place in range(len(ratios))]
    return [ImageSource(source.name, source.split, part, class_names=()) for part in parts]
