"""What a split holds, found by reading every record once: labels, sizes, damage and copies."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import grain
import numpy as np

from mvar_jax.checks import first_line
from mvar_jax.data.image_source import decode_record
from mvar_jax.data.skipped import SkippedRecords
from mvar_jax.data.source import Split


@dataclass(frozen=True)
class Survey:
    """The records of a split by index. Entries of those that cannot be read mean nothing."""

    split: Split
    labels: np.ndarray  # int32 [records]
    sizes: np.ndarray  # int32 [records, 2], (height, width) in pixels of the upright image
    digests: np.ndarray  # uint64 [records]; those of equal files, and no others, are equal
    causes: dict[int, str]  # why a record cannot be read

    @property
    def readable(self) -> np.ndarray:
        """Which records can be read, bool [records]."""
        return np.array([index not in self.causes for index in range(len(self.labels))], bool)

    def counts(self) -> np.ndarray:
        """How many images that can be read every class has, int [classes]."""
        labels = self.labels[self.readable]
        return np.bincount(labels, minlength=len(self.split.class_names))

    def check_readable(self) -> None:
        """Raises ValueError where so many cannot be read that a training would end."""
        split, describe = self.split, self.split.records.describe
        skipped = SkippedRecords(f"{split.dataset} split {split.name!r}", len(self.labels))
        found = {index: (describe(index), cause) for index, cause in self.causes.items()}
        skipped.add_known(found, warn=False)

    def copies(self, other: "Survey") -> list[tuple[int, int]]:
        """Records whose file is also in another survey, with its first record there.

        In the survey itself, these are records with an equal one before them.
        """
        digests, first = np.unique(other.digests, return_index=True)
        places = np.minimum(np.searchsorted(digests, self.digests), len(digests) - 1)
        found = self.readable & (digests[places] == self.digests)
        if other is self:
            found &= first[places] < np.arange(len(found))
        return [(int(index), int(first[places[index]])) for index in np.flatnonzero(found)]


def survey_split(split: Split, num_threads: int, progress: Callable[[], None]) -> Survey:
    """Reads and decodes all records of a split, and calls `progress` after every one."""
    count = len(split.records)
    survey = Survey(
        split,
        np.zeros(count, np.int32),
        np.zeros((count, 2), np.int32),
        np.zeros(count, np.uint64),
        {},
    )
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=max(1, num_threads))
    records = grain.MapDataset.source(_Inspector(split)).to_iter_dataset(options)
    for index, found in enumerate(records):
        if isinstance(found, str):
            survey.causes[index] = found
        else:
            survey.labels[index], survey.sizes[index], survey.digests[index] = found
        progress()
    return survey


class _Inspector:
    """Label, size and digest of every record by index, or why it cannot be read."""

    def __init__(self, split: Split):
        self._split = split

    def __len__(self) -> int:
        return len(self._split.records)

    def __getitem__(self, index: int) -> tuple[int, tuple[int, ...], int] | str:
        try:
            record = self._split.records[index]
            example = decode_record(record, len(self._split.class_names))
        except Exception as error:  # readers of files raise many kinds over damage
            return first_line(error)
        digest = hashlib.blake2b(record["image"], digest_size=8).digest()
        size = example["image"].shape[:2]
        return int(example.get("label", 0)), size, int.from_bytes(digest, "little")
