"""Files that are complete or absent, even if the process that writes them is killed.

On a disk they are written to a draft in the same folder and renamed when complete. Drafts are never
read: a draft that a killed process left is overwritten by the next process that writes the same
file. For a bucket the draft is a temporary file of this machine, and uploaded when complete.
"""

import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mvar_jax.files.buckets import BucketPath, upload

UNFINISHED = ".unfinished"  # how the names of drafts end


@contextmanager
def written_whole(path: Path, shared: bool = False) -> Iterator[Path]:
    """Yields a draft to write to, which becomes `path` at the end of the `with` block.

    An existing file is replaced. If the block raises, the draft is deleted and `path` stays as it
    was; an OSError without a file name, or with the draft's, names `path`. With `shared`, several
    processes may write the file at the same time, each its own draft; the last one to finish wins.
    """
    if isinstance(path, BucketPath):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / path.name
            upload(Path(folder) / path.name, path)
        return
    draft = draft_of(path, _own() if shared else "")
    try:
        with naming_errors(path, draft):
            yield draft
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all; an existing one is replaced."""
    with written_whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def file_checksum(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def check_writable(path: Path) -> None:
    """Raises OSError, which names `path`, unless a draft can be written for it.

    What lies at `path` stays, and nothing is left. Missing folders above it are taken for ones that
    will be made: the draft is written in the nearest one that exists.
    """
    if isinstance(path, BucketPath):
        draft = draft_of(path, _own())
        write_text(draft, "")
        draft.unlink()
        return
    above = next(folder for folder in path.absolute().parents if folder.exists())
    draft = draft_of(above / path.name, _own())
    with naming_errors(path, draft):
        draft.touch()
        draft.unlink()


def check_unused(folder: Path, but: str = UNFINISHED) -> None:
    """Raises ValueError where anything lies at `folder` but drafts of killed processes.

    A file whose name ends in `but` may lie there too.
    """
    ends = UNFINISHED, but
    empty = folder.is_dir() and all(path.name.endswith(ends) for path in folder.iterdir())
    if folder.exists() and not empty:
        raise ValueError(
            f"--out: {folder} holds something else, expected a new or empty folder; name another."
        )


def draft_of(path: Path, owner: str = "") -> Path:
    """The path that a file or folder of a disk is written to before it is renamed, beside it.

    In a bucket, a folder that is being uploaded has an object of this name beside it.
    """
    return path.with_name(f"{path.name}{owner}{UNFINISHED}")


def _own() -> str:
    """What tells the drafts of this process from those of others."""
    return f".{socket.gethostname()}.{os.getpid()}"


@contextmanager
def naming_errors(path: Path, draft: Path | None = None) -> Iterator[None]:
    """Adds `path` to OSErrors that name no file, such as those of a full disk, or the draft."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(draft or path)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
