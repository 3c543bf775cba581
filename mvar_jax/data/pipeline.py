"""Grain pipelines from a dataset to batches of images, or of their tokens, and labels."""

import functools
from collections.abc import Callable
from typing import Any

import grain
import numpy as np
from absl import flags
from jaxtyping import Float32, UInt8

from mvar_jax.array_types import Example
from mvar_jax.checks import check
from mvar_jax.config import DataConfig
from mvar_jax.data.augment import center_crop, cover, random_crop, random_shift
from mvar_jax.data.caption_choice import choose_caption
from mvar_jax.data.image_source import ImageSource
from mvar_jax.data.source import load_source
from mvar_jax.data.token_source import TokenSource

Encode = Callable[[Example], Example]


def same(example: Example) -> Example:
    """The example as it is, with its label or tokens."""
    return example


def load_examples(data: DataConfig, image_size: tuple[int, int]) -> TokenSource | ImageSource:
    """The training split by index: images, or with `data.tokens` their tokens.

    Raises ValueError as `load_source` and `TokenSource` do and, unless the augmentation is "crop",
    when the first image is not of `image_size` (height, width) in pixels.
    """
    if data.tokens:
        return TokenSource(data.tokens)
    return load_images(data, image_size, data.train_split)


def load_images(data: DataConfig, image_size: tuple[int, int], split: str) -> ImageSource:
    """The images of a split by index; raises ValueError as `load_examples` does."""
    source = load_source(data.name, split, data.directory, captions=data.captions)
    center(source[0], data, image_size)  # one of another size shows here
    return source


def train_batches(
    data: DataConfig,
    image_size: tuple[int, int],
    batch_size: int,
    *,
    seed: int,
    source: TokenSource | ImageSource | None = None,
    rows: np.ndarray | None = None,
    first: int = 0,
    encode: Encode = same,
) -> grain.IterDataset:
    """Endless batches of the training split, reshuffled in every epoch and augmented.

    Each is `{"image": float32 [batch, height, width, 3] in [-1, 1], "label": int32 [batch]}`;
    `image_size` is (height, width) in pixels. Epochs follow one another inside a batch. With
    `data.tokens` it is `{"tokens": int32 [batch, total], "label": int32 [batch]}`, of one of
    every image's crops, drawn at random. The batches are a function of `seed` alone; `iter(...)`
    has `get_state` and `set_state` (saved in checkpoints), after which it goes on exactly where
    it was, with any number of threads, and the same number of worker processes.
    `source` is what `load_examples` gives, where it is at hand. With `rows` only these rows of
    every batch are read; the first batch is number `first`. `encode` turns the caption of an
    example into arrays.

    Raises ValueError as `load_examples` does, and on iteration for too many images that cannot be
    read or, unless the augmentation is "crop", are not of `image_size`.
    """
    if source is None:
        source = load_examples(data, image_size)
    cropped = functools.partial(augment, data=data, image_size=image_size)
    prepare = _pick_crop if data.tokens else cropped
    records = grain.MapDataset.source(source).seed(seed % 2**32).shuffle().repeat()
    records = batch_rows(records.random_map(prepare).map(encode), batch_size, rows)
    size = batch_size if rows is None else len(rows)
    return batched(records[first * size :], size, data)


def eval_batches(
    data: DataConfig, image_size: tuple[int, int], batch_size: int, *, split: str
) -> grain.IterDataset:
    """The images of a split once, in their order, not augmented; the last batch may be smaller.

    Batches are as those of `train_batches`, always of images. With augmentation "crop" images are
    resized alike and the middle is taken. Raises ValueError as `train_batches` does.
    """
    return batched(eval_records(data, image_size, split), batch_size, data)


def eval_records(
    data: DataConfig, image_size: tuple[int, int], split: str, encode: Encode = same
) -> grain.MapDataset:
    """What `eval_batches` makes batches of; `encode` is as in `train_batches`."""
    source = load_images(data, image_size, split)
    prepare = functools.partial(center, data=data, image_size=image_size)
    return grain.MapDataset.source(source).map(prepare).map(encode)


def eval_token_records(data: DataConfig) -> grain.MapDataset:
    """The first crops of `data.validation_tokens`, in their order; raises as `TokenSource` does."""
    return grain.MapDataset.source(TokenSource(data.validation_tokens)).map(_first_crop)


def batch_rows(
    records: grain.MapDataset, batch_size: int, rows: np.ndarray | None
) -> grain.MapDataset:
    """The records at `rows` of every whole batch, in order, all for None; others are not read."""
    if rows is None or len(rows) == batch_size:
        return records
    places = grain.MapDataset.range(len(records) // batch_size * len(rows))
    return places.map(functools.partial(_pick, records, batch_size, tuple(map(int, rows))))


def _pick(records: grain.MapDataset, batch_size: int, rows: tuple[int, ...], place: int) -> Any:
    batch, row = divmod(int(place), len(rows))
    return records[batch * batch_size + rows[row]]


def normalize(images: UInt8[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Maps uint8 pixels to float32 in [-1, 1]."""
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


def batched(records: grain.MapDataset, batch_size: int, data: DataConfig) -> grain.IterDataset:
    """Batches of records in their order, read by as many threads or processes as `data` says."""
    if data.num_workers:
        return _batches_of_workers(records, batch_size, data.num_workers).map(_normalize)
    # Threads read single records, one batch ahead: whole batches ahead would fill the memory.
    ahead = max(batch_size, data.num_threads)
    options = grain.ReadOptions(num_threads=data.num_threads, prefetch_buffer_size=ahead)
    return records.to_iter_dataset(options).batch(batch_size).map(_normalize)


def _batches_of_workers(
    records: grain.MapDataset, batch_size: int, num_workers: int
) -> grain.IterDataset:
    """Batches by turns of processes, each of which makes whole ones: the same with any number."""
    if not flags.FLAGS.is_parsed():  # Grain hands them on to its processes
        flags.FLAGS.mark_as_parsed()
    one_ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    batches = records.batch(batch_size).to_iter_dataset(one_ahead)
    return batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers))


def _normalize(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    # After the processes, because bytes travel at a quarter of the cost.
    return batch | {"image": normalize(batch["image"])} if "image" in batch else batch


def _pick_crop(record: dict[str, Any], generator: np.random.Generator) -> dict[str, Any]:
    return record | {"tokens": record["tokens"][generator.integers(len(record["tokens"]))]}


def _first_crop(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"tokens": record["tokens"][0]}


def augment(
    record: dict[str, Any],
    generator: np.random.Generator,
    *,
    data: DataConfig,
    image_size: tuple[int, int],
) -> dict[str, Any]:
    """A record whose image is changed at random, as `data` says; uint8 as it was.

    Of a long caption some of it is chosen.
    """
    if "caption" in record:
        record = choose_captions(record, generator, data.short_caption_rate)
    image = _fit(record["image"], data, image_size)
    if data.augmentation == "crop":
        image = random_crop(image, image_size, generator)
    elif data.augmentation == "shift":
        image = random_shift(image, data.max_shift, generator)
    return record | {"image": image}


def choose_captions(
    record: dict[str, Any], generator: np.random.Generator, short_rate: float
) -> dict[str, Any]:
    """A record with one caption, of those that it has (see `caption_choice`)."""
    record = dict(record)
    short, long = record.pop("short_caption", None), record["caption"]
    if short_rate:
        record["caption"] = choose_caption(long, short, short_rate, generator)
    return record


def center(record: dict[str, Any], data: DataConfig, image_size: tuple[int, int]) -> dict[str, Any]:
    """A record whose image is brought to `image_size` (height, width) without chance."""
    record = {name: value for name, value in record.items() if name != "short_caption"}
    image = _fit(record["image"], data, image_size)
    return record | {"image": center_crop(image, image_size)}


def covered_size(data: DataConfig, image_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels that images are resized to cover before they are cropped."""
    height, width = (round(data.resize_ratio * side) for side in image_size)
    return height, width


def _fit(image: np.ndarray, data: DataConfig, image_size: tuple[int, int]) -> np.ndarray:
    """The image that is cropped: resized for "crop", otherwise as it is."""
    if data.augmentation == "crop":
        return cover(image, covered_size(data, image_size))
    check(
        image.shape[:2] == image_size,
        f"data: an image of {data.name} has (height, width) {image.shape[:2]}, expected "
        f"{image_size}; set data.augmentation='crop' or change tokenizer.image_size.",
    )
    return image
