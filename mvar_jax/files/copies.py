"""Copies of what a bucket holds on this machine, for readers that need a file of a disk.

They lie in the cache, under their own names. A copy has the size of the object, and its generation
as its time of change, in microseconds: it is fetched again if either differs.
"""

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from mvar_jax.checks import check
from mvar_jax.files.buckets import (
    BucketPath,
    download,
    file_system,
    naming_bucket_errors,
    objects_below,
)
from mvar_jax.files.folders import AT_ONCE, names_below
from mvar_jax.files.paths import user_path
from mvar_jax.files.whole import UNFINISHED, written_whole


def cache_folder(name: str) -> Path:
    """Where this library keeps what it can make or fetch again."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "mvar_jax" / name


def input_path(name: str | Path) -> Path:
    """A path to read, as users write it; what is in a bucket is copied to this machine.

    Raises ValueError as `user_path` and OSError as `local_copy` do.
    """
    return local_copy(user_path(name))


def local_copy(path: Path) -> Path:
    """A file or folder of this machine with the same content: itself, or of a bucket's a copy.

    Raises OSError where the bucket has nothing of that name, ValueError as `objects_below` does.
    """
    if not isinstance(path, BucketPath):
        return path
    with naming_bucket_errors(path):
        about = file_system().info(str(path))
    if about["type"] == "file":
        _fetch(path, about)
        return _place(path)
    below = _files_below(path)
    folder, files = _place(path), [(path / name, about) for name, about in below.items()]
    for name in names_below(folder):
        if name not in below and not name.endswith(UNFINISHED):  # deleted in the bucket since
            (folder / name).unlink(missing_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        fetched = sum(pool.map(lambda file: _fetch(*file), files))
    if fetched:
        sys.stderr.write(f"{path}: fetched {fetched} of {len(files)} file(s) to {folder}.\n")
    return folder


def copy_folder(source: Path, draft: Path) -> None:
    """Copies a folder of a disk or a bucket to a new one of this machine.

    Raises OSError and ValueError as `local_copy` does.
    """
    if not isinstance(source, BucketPath):
        shutil.copytree(source, draft)
        return
    names = list(_files_below(source))
    for folder in {(draft / name).parent for name in names}:
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda name: download(source / name, draft / name), names))


def _files_below(folder: BucketPath) -> dict[str, dict[str, Any]]:
    """`objects_below`. Raises ValueError too where a file has the name of a folder."""
    found = objects_below(folder)
    for name in found:
        for above in map(str, PurePosixPath(name).parents):
            check(
                above not in found,
                f"{folder}: holds a file {above!r} and a file {name!r}, which cannot both lie on a "
                "disk; delete or rename one.",
            )
    return found


def _place(path: BucketPath) -> Path:
    return cache_folder("buckets").joinpath(*path.parts[2:])


def _fetch(file: BucketPath, about: dict[str, Any]) -> bool:
    """Whether a file had to be fetched, since the copy in the cache, if any, is of another."""
    copy, moment = _place(file), int(about["generation"]) * 1000  # in nanoseconds
    if copy.is_file():
        status = copy.stat()
        if (status.st_size, status.st_mtime_ns) == (about["size"], moment):
            return False
    copy.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(copy, shared=True) as draft:
        download(file, draft)
        os.utime(draft, ns=(moment, moment))
    return True
