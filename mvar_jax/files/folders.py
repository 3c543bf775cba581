"""Folders that are there whole or not at all, even if the process that writes them is killed.

On a disk a folder is written to a draft beside it, and renamed. For a bucket the draft is a
temporary folder of this machine. It is uploaded file by file, while an object with the name of a
draft lies beside it: a folder is whole when that is gone. `is_whole` tells, for both.
"""

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from mvar_jax.checks import check
from mvar_jax.files.buckets import (
    BucketPath,
    file_system,
    naming_bucket_errors,
    objects_below,
    upload,
)
from mvar_jax.files.upload_mark import UploadMark
from mvar_jax.files.whole import draft_of

AT_ONCE = 16  # files that are sent or fetched at a time


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """Yields the path of a draft, which does not exist, for a folder that will be `path`.

    The block gives it to `publish`. If the draft still exists at the end, it is deleted.
    """
    if isinstance(path, BucketPath):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / path.name
        return
    draft = draft_of(path)
    remove_folder(draft)
    try:
        yield draft
    finally:
        remove_folder(draft)


def publish(draft: Path, path: Path) -> None:
    """Makes a draft, a folder or a file, `path`, whole or not at all.

    A file is replaced. Raises OSError, also for a folder that holds something, and ValueError where
    another process begins to upload the same folder.
    """
    if not isinstance(path, BucketPath):
        draft.replace(path)
        return
    if draft.is_file():
        upload(draft, path)
        return
    mark = UploadMark(path)
    remove_folder(path)  # of a process that was killed
    names = names_below(draft)

    def send(name: str) -> None:
        mark.check_ours()
        upload(draft / name, path / name)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(send, names))
    sizes = {name: about["size"] for name, about in objects_below(path).items()}
    check(
        sizes == {name: (draft / name).stat().st_size for name in names},
        f"{path}: another process wrote there meanwhile; run this again when it has ended.",
    )
    mark.remove()


def is_whole(path: Path) -> bool:
    """Whether a folder is there, and nobody was killed while uploading it."""
    return path.exists() and not (isinstance(path, BucketPath) and draft_of(path).exists())


def names_below(folder: Path) -> list[str]:
    """The files below a folder, by their sorted names relative to it, with slashes."""
    if isinstance(folder, BucketPath):
        return sorted(objects_below(folder))
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def remove_folder(path: Path) -> None:
    """Deletes a folder with all that it holds, if it is there."""
    if not isinstance(path, BucketPath):
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():
        with naming_bucket_errors(path):
            file_system().rm(str(path), recursive=True)


def move_folder(path: Path, to: Path, mark: str) -> None:
    """Gives a folder another name, which is free.

    In a bucket its files are copied, then deleted, the file `mark` first: it says to readers that
    the folder is complete.
    """
    if not isinstance(path, BucketPath):
        path.rename(to)
        return
    with naming_bucket_errors(path):
        file_system().copy(str(path), str(to), recursive=True)
        (path / mark).unlink(missing_ok=True)
    remove_folder(path)
