"""A folder of images with captions: a .txt beside every image, with the same name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvar_jax.checks import check
from mvar_jax.data.folder import SUFFIXES, FolderRecords, digest, part, walk

MAX_CAPTION = 10_000  # bytes


@dataclass(frozen=True)
class CaptionedFolder:
    """The encoded images of a split by index, with their captions."""

    images: FolderRecords

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        file = (self.images.folder / self.images.files[index]).with_suffix(".txt")
        check(file.is_file(), f"it has no caption {file.name} beside it")
        check(file.stat().st_size <= MAX_CAPTION, f"its caption has more than {MAX_CAPTION} bytes")
        caption = file.read_text(encoding="utf-8-sig").strip()
        check(caption != "", f"its caption {file.name} is empty")
        return {"image": self.images[index]["image"], "caption": caption}

    def describe(self, index: int) -> str:
        """The file's path below the folder."""
        return self.images.describe(index)

    def find_unreadable(self) -> dict[int, str]:
        """Images that cannot be read, as far as their first bytes tell, and why."""
        return self.images.find_unreadable()


def scan_captions(folder: Path, split: str) -> CaptionedFolder:
    """The captioned images of a split, wherever they lie in a folder.

    With folders `train` and `validation` these are the splits; otherwise one image in
    `VALIDATION_EVERY` is taken for validation, by the hash that `folder` uses. Images without a
    caption count as unreadable. Raises ValueError for a folder that is none, or has no such split.
    """
    check(folder.is_dir(), f"data.directory: found no folder {str(folder)!r}, expected images.")
    check(
        split in ("train", "validation"),
        f"data: {folder} has no split {split!r}, expected 'train' or 'validation'.",
    )
    apart = (folder / "train").is_dir() and (folder / "validation").is_dir()
    place = folder / split if apart else folder
    found = [file.relative_to(place).as_posix() for file in walk(place, ())]
    files = sorted((file for file in found if Path(file).suffix.lower() in SUFFIXES), key=digest)
    files = files if apart else part(files, split)
    check(
        len(files) > 0,
        f"data: split {split!r} of {folder} is empty, expected at least one image; add images.",
    )
    return CaptionedFolder(FolderRecords(place, tuple(files), (0,) * len(files), ()))
