"""Any folder of images as a dataset: one folder per class, inside of one per split or not.

The order of the images is that of a hash of their paths, so that any stretch of it holds all
classes, on every machine the same. Where there is no folder of validation images, one image in
`VALIDATION_EVERY` is taken for it, by the same hash: images that are added later move no others.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from absl import logging

from mvar_jax.checks import check, first_line
from mvar_jax.data.decode import check_header

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif"),
        *(".gif", ".bmp", ".tif", ".tiff", ".ppm"),
    )
)
HEIC_SUFFIXES = (".heic", ".heif")  # photos of phones, which Pillow does not read
MAX_BYTES = 2**28  # of one file
VALIDATION_EVERY = 20
MOST_OPENED = 5000  # files at the start; to open more, from far storage, would take long


@dataclass(frozen=True)
class FolderRecords:
    """The encoded images of one split by index.

    `files`, and `passed_over`, which are not named as images, are paths below `folder`.
    """

    folder: Path
    files: tuple[str, ...]
    labels: tuple[int, ...]
    passed_over: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, bytes | int]:
        return {"image": self._file(index).read_bytes(), "label": self.labels[index]}

    def describe(self, index: int) -> str:
        """The file's path below the folder."""
        return self.files[index]

    def find_unreadable(self) -> dict[int, str]:
        """Files that are no images, as far as their first bytes tell, and why.

        Of more than `MOST_OPENED` files none is opened.
        """
        if len(self) > MOST_OPENED:
            return {}
        with ThreadPoolExecutor(16) as pool:
            causes = list(pool.map(self._look_at, range(len(self))))
        return {index: cause for index, cause in enumerate(causes) if cause is not None}

    def _look_at(self, index: int) -> str | None:
        try:
            check_header(self._file(index))
        except (OSError, ValueError) as error:
            return first_line(error)
        return None

    def _file(self, index: int) -> Path:
        """A file that may be read. Raises ValueError for what is none."""
        file = self.folder / self.files[index]
        check(file.is_file(), "it is no file that can be read")  # a pipe would wait for ever
        size = file.stat().st_size
        check(0 < size <= MAX_BYTES, f"it has {size} bytes, expected 1 to {MAX_BYTES}")
        return file


def scan_folder(folder: Path, split: str) -> tuple[FolderRecords, tuple[str, ...]]:
    """The images of a split, and the sorted names of all classes.

    Hidden files and folders are passed over; class folders may hold folders and links. Raises
    ValueError for a folder that is none, has no class folders or no such split, for classes
    without images, and for classes that the training split lacks.
    """
    check(
        folder.is_dir(),
        f"data.directory: found no folder {str(folder)!r}, expected one of class folders.",
    )
    place, is_part = _locate(folder, split)
    class_names = tuple(_subfolders(folder / "train" if place != folder else folder))
    labels = {name: label for label, name in enumerate(class_names)}
    found, passed_over = _files(folder, place, class_names)
    files = sorted(found, key=digest)
    if is_part:
        files = part(files, split)
    check(
        len(files) > 0,
        f"data: split {split!r} of {folder} is empty, expected at least one image; add images.",
    )
    indices = tuple(labels[found[file]] for file in files)
    return FolderRecords(place, tuple(files), indices, passed_over), class_names


def _locate(folder: Path, split: str) -> tuple[Path, bool]:
    """The folder with a split's class folders, and whether the split is a part of their images."""
    splits = _subfolders(folder)
    if "train" not in splits or not _subfolders(folder / "train"):  # else a class named "train"
        splits, alone = ["train", "validation"], folder
    elif splits == ["train"]:
        splits, alone = ["train", "validation"], folder / "train"
    else:
        alone = None
    check(
        split in splits,
        f"data: {folder} has no split {split!r}, expected one of {splits}; name "
        "one of them, where a config does it in data.train_split or data.validation_split.",
    )
    return (folder / split, False) if alone is None else (alone, True)


def _files(
    root: Path, place: Path, class_names: tuple[str, ...]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The classes of the images below the class folders in `place`, and what is passed over there.

    All are paths below it.
    """
    here = _subfolders(place)
    check(
        len(here) > 0,
        f"data.directory: {place} holds no folders, expected one per class; move the images there.",
    )
    unknown = sorted(set(here) - set(class_names))
    check(
        not unknown,
        f"data: {place} has a folder {unknown[:1]}, but {root / 'train'} has none of that class; "
        "every class needs training images.",
    )
    found: dict[str, str] = {}
    passed_over: list[str] = []
    for name in here:
        images: list[str] = []
        others: list[str] = []
        for file in walk(place / name, (root, place)):
            suitable = file.suffix.lower() in SUFFIXES
            (images if suitable else others).append(file.relative_to(place).as_posix())
        remedy = "convert its HEIC files to JPEG" if any(map(_is_heic, others)) else "add some"
        check(
            len(images) > 0,
            f"data: class folder {place / name} holds no images, expected files named as "
            f"{', '.join(sorted(SUFFIXES))}; {remedy}, or remove the folder.",
        )
        passed_over += others
        found |= dict.fromkeys(images, name)
    _name_passed_over(place, passed_over)
    return found, tuple(passed_over)


def _name_passed_over(place: Path, files: list[str]) -> None:
    """Warns of files that are not read, and of photos that need converting."""
    heic = [file for file in files if _is_heic(file)]
    others = [file for file in files if not _is_heic(file)]
    if heic:
        _warn_once(
            f"data: passed over {len(heic)} HEIC files in {place}, such as {heic[0]}, which cannot "
            "be read; convert them to JPEG."
        )
    if others:
        _warn_once(
            f"data: passed over {len(others)} files in {place} that are not named as images, such "
            f"as {others[0]}."
        )


def _is_heic(file: str) -> bool:
    return file.lower().endswith(HEIC_SUFFIXES)


@cache
def _warn_once(message: str) -> None:
    """Warns, the first time: a folder is read for each of its splits, and again for batches."""
    logging.warning("%s", message)


def walk(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """All visible files below a folder, every folder once, also where links lead round."""
    seen = {_identity(place) for place in above}
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        if _identity(place) in seen:
            folders.clear()
            continue
        seen.add(_identity(place))
        folders[:] = sorted(name for name in folders if _is_visible(name))
        yield from (Path(place, name) for name in files if _is_visible(name))


def part(files: list[str], split: str) -> list[str]:
    """The training or the validation images of files in the order of their digests.

    Validation has one image at least: of very few, the first.
    """
    chosen = [file for file in files if digest(file)[0] % VALIDATION_EVERY == 0] or files[:1]
    if split == "validation":
        return chosen
    taken = set(chosen)
    return [file for file in files if file not in taken]


def digest(file: str) -> tuple[int, str]:
    """A number that is spread evenly over paths, and the path, should two numbers be equal."""
    spread = hashlib.blake2b(os.fsencode(file), digest_size=8).digest()
    return int.from_bytes(spread, "little"), file


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(item.name for item in entries if _is_visible(item.name) and item.is_dir())


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _identity(place: str | Path) -> tuple[int, int]:
    status = os.stat(place)
    return status.st_dev, status.st_ino


def _raise(error: OSError) -> None:
    raise error
