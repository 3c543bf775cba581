"""Any folder of images as a dataset: one folder per class, inside of one per split or not.

The order of the images is that of a hash of their paths, so that any stretch of it holds all
classes, on every machine the same. Where there is no folder of validation images, one image in
`VALIDATION_EVERY` is taken for it, by the same hash: images that are added later move no others.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from absl import logging

from mvar_jax.checks import check

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")
)
MAX_BYTES = 2**28  # of one file
VALIDATION_EVERY = 20


@dataclass(frozen=True)
class FolderRecords:
    """The encoded images of one split by index. `files` are paths below `folder`."""

    folder: Path
    files: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, bytes | int]:
        file = self.folder / self.files[index]
        check(file.is_file(), "it is no file that can be read")  # a pipe would wait for ever
        size = file.stat().st_size
        check(size <= MAX_BYTES, f"it has {size} bytes, expected at most {MAX_BYTES}")
        return {"image": file.read_bytes(), "label": self.labels[index]}

    def describe(self, index: int) -> str:
        """The file's path below the folder."""
        return self.files[index]


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
    found = {file: labels[name] for file, name in _files(folder, place, class_names)}
    files = sorted(found, key=_digest)
    if is_part:
        files = _part(files, split)
    check(
        len(files) > 0,
        f"data: split {split!r} of {folder} is empty, expected at least one image; add images.",
    )
    return FolderRecords(place, tuple(files), tuple(found[file] for file in files)), class_names


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
        f"data: {folder} has no split {split!r}, expected one of {splits}; change "
        "data.train_split or data.validation_split.",
    )
    return (folder / split, False) if alone is None else (alone, True)


def _files(root: Path, place: Path, class_names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The images below the class folders in `place`: paths below it, and their class."""
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
    passed_over: list[str] = []
    for name in here:
        images: list[str] = []
        for file in _walk(place / name, (root, place)):
            suitable = file.suffix.lower() in SUFFIXES
            (images if suitable else passed_over).append(file.relative_to(place).as_posix())
        check(
            len(images) > 0,
            f"data: class folder {place / name} holds no images, expected files named as "
            f"{', '.join(sorted(SUFFIXES))}; add some, or remove the folder.",
        )
        yield from ((file, name) for file in images)
    if passed_over:
        logging.warning(
            "data: passed over %d files in %s that are not named as images, such as %s.",
            *(len(passed_over), place, passed_over[0]),
        )


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """All visible files below a folder, every folder once, also where links lead round."""
    seen = {_identity(place) for place in above}
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        if _identity(place) in seen:
            folders.clear()
            continue
        seen.add(_identity(place))
        folders[:] = sorted(name for name in folders if _is_visible(name))
        yield from (Path(place, name) for name in files if _is_visible(name))


def _part(files: list[str], split: str) -> list[str]:
    """The training or the validation images of files in the order of their digests.

    Validation has one image at least: of very few, the first.
    """
    chosen = [file for file in files if _digest(file)[0] % VALIDATION_EVERY == 0] or files[:1]
    if split == "validation":
        return chosen
    taken = set(chosen)
    return [file for file in files if file not in taken]


def _digest(file: str) -> tuple[int, str]:
    """A number that is spread evenly over paths, and the path, should two numbers be equal."""
    digest = hashlib.blake2b(os.fsencode(file), digest_size=8).digest()
    return int.from_bytes(digest, "little"), file


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
