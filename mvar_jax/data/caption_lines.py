"""Captioned images as JSON lines, as Infinity's training data is published.

A folder of `*.jsonl` files, in each a line per image: `image_path` (below the folder, or absolute),
`h_div_w` (its height / width), `long_caption`, and perhaps `text`, a short caption.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mvar_jax.checks import check, first_line
from mvar_jax.data.caption_choice import spoken
from mvar_jax.data.folder import MAX_BYTES, digest, part
from mvar_jax.files import parse_json

SUFFIX = ".jsonl"


@dataclass(frozen=True)
class CaptionLines:
    """The encoded images of a split by index, with their captions.

    Lines stay in their files: `places` holds the number of a file in `files`, and the offset of a
    line there.
    """

    folder: Path
    files: tuple[Path, ...]
    places: np.ndarray  # int64 [images, 2]
    ratios: np.ndarray  # float32 [images], height / width

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._row(index)
        image = self.folder / row["image_path"]
        check(image.is_file(), "it is no file that can be read")
        check(image.stat().st_size <= MAX_BYTES, f"it has more than {MAX_BYTES} bytes")
        record = {"image": image.read_bytes(), "caption": row["long_caption"]}
        return record | ({"short_caption": row["text"]} if row.get("text") else {})

    def describe(self, index: int) -> str:
        """The path of the image."""
        return self._row(index)["image_path"]

    def find_unreadable(self) -> dict[int, str]:
        """None: to tell, every image would have to be read."""
        return {}

    def subset(self, chosen: np.ndarray) -> "CaptionLines":
        """The images at these indices."""
        return CaptionLines(self.folder, self.files, self.places[chosen], self.ratios[chosen])

    def _row(self, index: int) -> dict[str, Any]:
        file, offset = self.places[index]
        with self.files[file].open("rb") as lines:
            lines.seek(offset)
            return json.loads(lines.readline())


def scan_lines(folder: Path, split: str) -> CaptionLines:
    """The captioned images of a split: one in `VALIDATION_EVERY` is for validation, by a hash.

    Every line is read once; several lines of one image are several captions of it.

    Raises ValueError for a folder without lines, for a line that is none, and for an empty split.
    """
    check(folder.is_dir(), f"data.directory: found no folder {str(folder)!r}, expected {SUFFIX}.")
    check(
        split in ("train", "validation"),
        f"data: {folder} has no split {split!r}, expected 'train' or 'validation'.",
    )
    files = tuple(sorted(folder.glob(f"*{SUFFIX}")))
    check(len(files) > 0, f"data.directory: {folder} holds no {SUFFIX} file.")
    found: dict[str, list[tuple[int, int, float]]] = {}
    for number, file in enumerate(files):
        for offset, row in _rows(file):
            found.setdefault(row["image_path"], []).append((number, offset, row["h_div_w"]))
    paths = part(sorted(found, key=digest), split)
    check(len(paths) > 0, f"data: split {split!r} of {folder} is empty; add images.")
    rows = [row for path in paths for row in found[path]]
    places = np.array([row[:2] for row in rows], np.int64)
    return CaptionLines(folder, files, places, np.array([row[2] for row in rows], np.float32))


def _rows(file: Path):
    """The offset and the content of every line. Raises ValueError for a line that is none."""
    with file.open("rb") as lines:
        offset, number = 0, 1
        for line in lines:
            if line.strip():
                try:
                    row = parse_json(line)
                    sound = isinstance(row["image_path"], str) and row["h_div_w"] > 0
                    sound = sound and spoken(row["long_caption"]) != ""
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    sound, row = False, first_line(error)
                check(
                    sound,
                    f"{file}: line {number} is not a captioned image ({str(row)[:80]}), expected "
                    "JSON with image_path, h_div_w and a long_caption that says something.",
                )
                yield offset, row
            offset, number = offset + len(line), number + 1
