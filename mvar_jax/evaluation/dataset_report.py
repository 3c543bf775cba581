"""What a dataset holds, in words and in pictures, before anything is trained on it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageOps

from mvar_jax.array_types import Example
from mvar_jax.config import Config, DataConfig
from mvar_jax.data.image_source import decode_record
from mvar_jax.data.pipeline import covered_size, normalize, train_batches
from mvar_jax.data.survey import Survey
from mvar_jax.pictures.image_grid import PAPER, image_grid

MOST_LISTED = 50  # classes, files and copies; only unreadable images are listed in full
SHEET_ROWS, SHEET_COLUMNS, SHEET_SIDE = 12, 8, 96  # classes, images of each, pixels
BATCH = 64  # images at most
ENLARGE_TO = 64  # pixels


def report(surveys: Sequence[Survey], data: DataConfig, image_size: tuple[int, int]) -> str:
    """Lines about every split: classes, sizes, what is unreadable, passed over, or there twice.

    `image_size` is (height, width) in pixels of the images that are trained on.
    """
    lines: list[str] = []
    for place, survey in enumerate(surveys):
        lines += [*_about(survey, data, image_size), *_copies(survey, surveys[: place + 1])]
    return "\n".join(lines)


def contact_sheet(survey: Survey) -> Image.Image:
    """The first images of up to `SHEET_ROWS` classes, a row each, as they are in their files.

    Each is fitted into a square of `SHEET_SIDE` pixels. Raises ValueError where no image can be
    read.
    """
    present = np.flatnonzero(survey.counts())
    spread = np.linspace(0, len(present) - 1, min(SHEET_ROWS, len(present))).astype(int)
    cells = np.full((len(spread), SHEET_COLUMNS, SHEET_SIDE, SHEET_SIDE, 3), 255, np.uint8)
    names = survey.split.class_names
    for row, label in zip(cells, present[spread]):
        chosen = np.flatnonzero(survey.readable & (survey.labels == label))
        for cell, index in zip(row, chosen):
            example = decode_record(survey.split.records[int(index)], len(names))
            image = Image.fromarray(example["image"])
            cell[:] = np.asarray(ImageOps.pad(image, cell.shape[:2], color=PAPER))
    images = normalize(cells.reshape(-1, *cells.shape[2:]))
    labels = [names[label].partition(",")[0] for label in present[spread]]
    return image_grid(images, SHEET_COLUMNS, labels)


def first_batch(config: Config) -> Image.Image:
    """The first images that a training reads, resized, cropped and augmented as it reads them.

    Raises ValueError as `train_batches` does.
    """
    data, size = replace(config.data, tokens=""), config.tokenizer.image_size
    count = min(config.batch_size, BATCH)
    batches = train_batches(data, size, count, seed=config.seed, encode=_image_alone)
    batch = next(iter(batches))
    return image_grid(batch["image"], SHEET_COLUMNS, scale=max(1, ENLARGE_TO // size[1]))


def _image_alone(example: Example) -> Example:
    return {"image": example["image"]}


def _about(survey: Survey, data: DataConfig, image_size: tuple[int, int]) -> Iterator[str]:
    """Lines about a split by itself."""
    split, counts = survey.split, survey.counts()
    yield (
        f"{split.name}: {counts.sum()} images of {len(counts)} classes, "
        f"{len(survey.causes)} more cannot be read"
    )
    if counts.sum() > 0:
        yield f"  images per class: {_spread(counts)}"
        by_count = [f"{split.class_names[i]}: {counts[i]}" for i in np.argsort(counts)]
        yield from _listed(by_count, "classes")
        sizes = survey.sizes[survey.readable]
        yield f"  height in pixels: {_spread(sizes[:, 0])}"
        yield f"  width in pixels: {_spread(sizes[:, 1])}"
        yield f"  {_misfits(sizes, data, image_size)}"
    for index, cause in survey.causes.items():
        yield f"  cannot be read: {split.records.describe(index)} ({cause})"
    if split.passed_over:
        yield f"  passed over, as they are not named as images: {len(split.passed_over)} files"
        yield from _listed(sorted(split.passed_over), "files")


def _misfits(sizes: np.ndarray, data: DataConfig, image_size: tuple[int, int]) -> str:
    """How many images are not as large as they should be."""
    if data.augmentation == "crop":
        wanted = covered_size(data, image_size)
        count, what = np.any(sizes < wanted, axis=1).sum(), "will be enlarged, smaller than"
    else:
        wanted = image_size
        count, what = np.any(sizes != wanted, axis=1).sum(), "will be refused, of another size than"
    return f"{count} {what} {wanted[0]}x{wanted[1]} (height x width)"


def _copies(survey: Survey, others: Iterable[Survey]) -> Iterator[str]:
    """Lines about files that are there twice, in the split itself or in one before it."""
    describe = survey.split.records.describe
    for other in others:
        pairs = survey.copies(other)
        if pairs:
            where = "twice" if other is survey else f"also in {other.split.name}"
            yield f"  {where}: {len(pairs)} images"
            named = (f"{describe(i)} = {other.split.records.describe(j)}" for i, j in pairs)
            yield from _listed(list(named), "images")


def _spread(numbers: np.ndarray) -> str:
    return f"{numbers.min()} to {numbers.max()}, median {np.median(numbers):g}"


def _listed(items: Sequence[str], what: str) -> Iterator[str]:
    """Lines that name things, of very many the first ones."""
    yield from (f"    {item}" for item in items[:MOST_LISTED])
    if len(items) > MOST_LISTED:
        yield f"    and {len(items) - MOST_LISTED} more {what}"
