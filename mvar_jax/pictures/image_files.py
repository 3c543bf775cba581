"""Pictures as files: one of a kind that its name says, or a folder with a file per image."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mvar_jax.array_types import HostArray
from mvar_jax.checks import check
from mvar_jax.files import user_path, written_whole
from mvar_jax.pictures.pixels import check_images, enlarge, to_uint8

# What Pillow is told of every kind of file: drawn pixels stay as they are where the kind can.
KINDS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".webp": {"format": "WEBP", "lossless": True},
}
LONGEST_SIDE = {".jpg": 65535, ".jpeg": 65535, ".webp": 16383}  # pixels
LONGEST_NAME = 60  # characters; drafts have longer ones


def save_picture(picture: Image.Image, path: Path | str) -> None:
    """Writes a picture, whole or not at all; equal pictures give equal bytes.

    The suffix is one of `KINDS`. Missing folders are created. Raises ValueError for another suffix
    and as `check_fits` does, OSError when the file cannot be written.
    """
    path = user_path(path)
    suffix = path.suffix.lower()
    check(
        suffix in KINDS,
        f"pictures: got the name {path.name!r}, expected one that ends in {', '.join(KINDS)}.",
    )
    check_fits(path, picture.size)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path, shared=True) as draft, draft.open("wb") as file:
        picture.save(file, **KINDS[suffix])


def save_images(
    images: HostArray,
    folder: Path | str,
    names: Sequence[str] = (),
    *,
    scale: int = 1,
    suffix: str = ".png",
) -> list[Path]:
    """Writes every image to a file of its own; returns the files, in the order of the images.

    Images, float [batch, height, width, 3], lie in [-1, 1]; each pixel is drawn as `scale` x
    `scale`. `names` are those of the files without `suffix`, by default the images' indices; what
    is neither letter nor digit, nor one of "._-", becomes "-". Raises ValueError for another shape
    or dtype, NaN, names that are not one for each image, and a folder that is a file, and as
    `save_picture` does.
    """
    check(str(folder) != "", "folder: got an empty name, expected that of a folder.")
    folder = user_path(folder)
    check(
        folder.is_dir() or not folder.exists(),
        f"folder: {folder} is a file, expected a folder; name another one.",
    )
    check_images(images)
    check(scale >= 1, f"scale: got {scale}, expected at least 1.")
    names = [file_name(name) for name in names or [f"{i:05d}" for i in range(len(images))]]
    check(
        len(set(names)) == len(names) == len(images),
        f"names: got {len(set(names))} different ones for {len(images)} images, expected one each.",
    )
    files = [folder / f"{name}{suffix}" for name in names]
    for file, pixels in zip(files, to_uint8(images)):
        save_picture(Image.fromarray(enlarge(pixels[None], scale)[0]), file)
    return files


def file_name(text: str) -> str:
    """A text as a name that any file system takes, and that hides no file."""
    return re.sub(r"[^\w.-]+", "-", text)[:LONGEST_NAME].strip("-.") or "-"


def check_fits(path: Path, size: tuple[int, int]) -> None:
    """Raises ValueError where a file of that suffix cannot hold a picture of (width, height)."""
    most = LONGEST_SIDE.get(path.suffix.lower(), np.inf)
    check(
        max(size) <= most,
        f"out: a picture of {size[0]} x {size[1]} pixels does not fit into a {path.suffix}, whose "
        f"sides have at most {most}; name a .png, or draw less.",
    )
