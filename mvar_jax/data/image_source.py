"""Labelled images by index, decoded; what cannot be read is skipped."""

import weakref
from typing import Protocol, runtime_checkable

import numpy as np

from mvar_jax.array_types import Example
from mvar_jax.checks import check, first_line
from mvar_jax.data.decode import decode_image
from mvar_jax.data.skipped import SkippedRecords

CACHE_BYTES = 2**28


@runtime_checkable
class Records(Protocol):
    """Encoded images by index."""

    def __len__(self) -> int:
        """The number of records."""

    def __getitem__(self, index: int) -> dict:
        """A record: `image`, encoded bytes, and `label`, or `caption` in its place.

        Raises any error if it is damaged.
        """

    def describe(self, index: int) -> str:
        """What identifies the record for a user: its file, or its index."""

    def find_unreadable(self) -> dict[int, str]:
        """Records that are known to be damaged before any is read, and why."""


class ImageSource:
    """Random access to the decoded images of one split.

    `source[i]` is `{"image": uint8 [h, w, 3], "label": int32}`, or has a `caption`, a text, in the
    label's place; `len(source)` counts the examples, `class_names` has one name per label. In the
    place of a record that cannot be read stands the next that can, so that the number and the order
    of the others stay; `skipped` holds which, and a warning names each once. Raises ValueError when
    too many cannot be read.

    The first `CACHE_BYTES` of decoded images are kept: small datasets are read many times by small
    machines.
    """

    def __init__(self, name: str, split: str, records: Records, *, class_names: tuple[str, ...]):
        self.name = name
        self.split = split
        self.class_names = class_names
        self.skipped = SkippedRecords(f"{name} split {split!r}", len(records))
        known = records.find_unreadable()
        self.skipped.add_known({i: (records.describe(i), cause) for i, cause in known.items()})
        self.records = records
        self._decoded: dict[int, Example] = {}
        self._room = CACHE_BYTES  # that is left
        if len(records):
            self[0]  # where nothing can be read, that shows here
        weakref.finalize(self, self.skipped.report)  # when it is no longer used, or at the end

    @property
    def num_classes(self) -> int:
        """Number of classes, from the dataset's own description."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return f"ImageSource({self.name!r}, {self.split!r}, {len(self)} images)"

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")  # also ends a loop over the source
        for place in range(index, index + len(self)):
            example = self.read(place % len(self))
            if example is not None:
                return example
        raise ValueError(
            f"data: none of the {len(self)} images of {self.name} split {self.split!r} can be read "
            f"({self.records.describe(index)}: {self.skipped.causes[index]}), expected some good "
            "ones; replace the files."
        )

    def read(self, index: int) -> Example | None:
        """A record itself, or None where it cannot be read, which is warned of once."""
        if index in self._decoded:
            return self._decoded[index]
        if index in self.skipped:
            return None
        try:
            example = decode_record(self.records[index], self.num_classes)
        except Exception as error:  # readers of files raise many kinds over damage
            self.skipped.add(index, self.records.describe(index), first_line(error))
            return None
        if example["image"].nbytes <= self._room:
            self._room -= example["image"].nbytes
            self._decoded[index] = example
        return example


def decode_record(record: dict, num_classes: int) -> Example:
    """A record's pixels, uint8 [h, w, 3], and its label or caption.

    Raises ValueError as `decode_image` does, and for a label that no class has.
    """
    if "caption" in record:
        return record | {"image": decode_image(record["image"])}
    label = int(record["label"])
    check(0 <= label < num_classes, f"its label is {label}, no class has it")
    return {"image": decode_image(record["image"]), "label": np.int32(label)}
