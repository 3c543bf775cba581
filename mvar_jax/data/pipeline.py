"""Grain pipelines from a dataset to batches of images and labels."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import grain
import numpy as np

from mvar_jax.config import DataConfig, check
from mvar_jax.data.augment import center_crop, cover, random_crop, random_shift
from mvar_jax.data.source import load_source


def train_batches(
    data: DataConfig,
    image_size: tuple[int, int],
    batch_size: int,
    seed: int,
    rows: Sequence[int] | None = None,
    first: int = 0,
) -> grain.IterDataset:
    """Endless batches of the training split, shuffled anew in every epoch and augmented.

    Each is `{"image": float32 [batch, height, width, 3] in [-1, 1], "label": int32 [batch]}`;
    `image_size` is (height, width) in pixels. Epochs follow one another inside a batch. The
    batches are a function of `seed` alone; `iter(...)` has `get_state` and `set_state` (saved
    in checkpoints), after which it goes on exactly where it was, with any number of threads.
    With `rows` only these rows of every batch are read; the first batch is number `first`.

    Raises ValueError as `load_source` does, and on iteration for images that cannot be read or,
    unless the augmentation is "crop", are not of `image_size`.
    """
    source = load_source(data.name, data.train_split, data.directory)
    records = grain.MapDataset.source(source).seed(seed % 2**32).shuffle().repeat()
    prepare = functools.partial(_augment, data=data, image_size=tuple(image_size))
    records = records.random_map(prepare)
    if rows is None:
        rows = range(batch_size)
    records = _rows(records, batch_size, rows)[first * len(rows) :]
    return _batches(records, len(rows), data.num_threads)


def eval_batches(
    data: DataConfig, image_size: tuple[int, int], batch_size: int, split: str
) -> grain.IterDataset:
    """The images of a split once, in their order, not augmented; the last batch may be smaller.

    Batches are as those of `train_batches`. With augmentation "crop" images are resized alike
    and the middle is taken. Raises ValueError as `train_batches` does.
    """
    records = _eval_records(data, image_size, split)
    return _batches(records, batch_size, data.num_threads)


class SharedEvaluation:
    """The batches of `eval_batches`, of each of which this process reads a part.

    `rows(size)` are the rows that it reads of a batch of `size` images, and `place(part, size)`
    makes the global batch of them: how many rows are its own may differ in the last batch.
    """

    def __init__(
        self,
        data: DataConfig,
        image_size: tuple[int, int],
        batch_size: int,
        split: str,
        rows: Callable[[int], Sequence[int]],
        place: Callable[[dict[str, np.ndarray], int], dict[str, Any]],
    ):
        self._records = _eval_records(data, image_size, split)
        self._size, self._num_threads = batch_size, data.num_threads
        self._own_rows, self._place = rows, place

    def __iter__(self) -> Iterator[dict[str, Any]]:
        whole = len(self._records) // self._size * self._size
        yield from self._placed(self._records[:whole], self._size)
        yield from self._placed(self._records[whole:], len(self._records) - whole)

    def _placed(self, records: grain.MapDataset, size: int) -> Iterable[dict[str, Any]]:
        if size == 0 or len(records) == 0:
            return ()
        rows = self._own_rows(size)
        parts = _batches(_rows(records, size, rows), len(rows), self._num_threads)
        return (self._place(part, size) for part in parts)


def _eval_records(data: DataConfig, image_size: tuple[int, int], split: str) -> grain.MapDataset:
    source = load_source(data.name, split, data.directory)
    prepare = functools.partial(_center, data=data, image_size=tuple(image_size))
    return grain.MapDataset.source(source).map(prepare)


def _rows(records: grain.MapDataset, batch_size: int, rows: Sequence[int]) -> grain.MapDataset:
    """The records that are at `rows` of each of the batches, in order; others are not read."""
    if len(rows) == batch_size:
        return records

    def pick(place: int) -> Any:
        batch, row = divmod(place, len(rows))
        return records[batch * batch_size + int(rows[row])]

    return grain.MapDataset.range(len(records) // batch_size * len(rows)).map(pick)


def _batches(records: grain.MapDataset, batch_size: int, num_threads: int) -> grain.IterDataset:
    # Threads read single records, one batch ahead: whole batches ahead would fill the memory.
    ahead = max(batch_size, num_threads)
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=ahead)
    return records.to_iter_dataset(options).batch(batch_size).map(_normalize)


def _normalize(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        "image": batch["image"].astype(np.float32) / np.float32(127.5) - np.float32(1),
        "label": batch["label"],
    }


def _augment(
    record: dict[str, Any],
    generator: np.random.Generator,
    data: DataConfig,
    image_size: tuple[int, int],
) -> dict[str, Any]:
    image = _fit(record["image"], data, image_size)
    if data.augmentation == "crop":
        image = random_crop(image, image_size, generator)
    elif data.augmentation == "shift":
        image = random_shift(image, data.max_shift, generator)
    return record | {"image": image}


def _center(
    record: dict[str, Any], data: DataConfig, image_size: tuple[int, int]
) -> dict[str, Any]:
    image = _fit(record["image"], data, image_size)
    return record | {"image": center_crop(image, image_size)}


def _fit(image: np.ndarray, data: DataConfig, image_size: tuple[int, int]) -> np.ndarray:
    """The image that is cropped: resized for "crop", otherwise as it is."""
    if data.augmentation == "crop":
        return cover(image, tuple(round(data.resize_ratio * side) for side in image_size))
    check(
        image.shape[:2] == image_size,
        f"data: an image of {data.name} has (height, width) {image.shape[:2]}, expected "
        f"{image_size}; set data.augmentation='crop' or change tokenizer.image_size.",
    )
    return image
