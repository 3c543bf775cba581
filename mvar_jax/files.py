"""Files and folders that are complete or absent, even if the process that writes them is killed.

They are written to a draft in the same folder and renamed when complete. Drafts are never read: a
draft that a killed process left is overwritten by the next process that writes the same file.
"""

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HUB = "hf://"  # how the names of models on the Hugging Face Hub begin
UNFINISHED = ".unfinished"  # how the names of drafts end


@contextmanager
def written_whole(path: Path, shared: bool = False) -> Iterator[Path]:
    """Yields a draft to write to, which is renamed to `path` at the end of the `with` block.

    An existing file is replaced. If the block raises, the draft is deleted and `path` stays as it
    was; an OSError without a file name, or with the draft's, names `path`. With `shared`, several
    processes may write the file at the same time, each its own draft; the last one to finish wins.
    """
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


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, whole or not at all. Raises ValueError for NaN, which JSON has not."""
    try:
        text = json.dumps(value, indent=2, allow_nan=False)
    except ValueError:
        raise ValueError(
            f"{path}: got NaN or an infinite number to write, expected finite ones; check the "
            "weights and the images."
        ) from None
    write_text(path, text)


def user_path(name: str | Path) -> Path:
    """A path as users write it, where ~ is their home and ~name that of another user.

    Raises ValueError for the home of nobody, and for a model on the Hugging Face Hub, which is read
    where `hub.local_path` is called and never written.
    """
    if str(name).startswith(HUB):
        raise ValueError(
            f"{name}: a model on the Hugging Face Hub is only read, and not as this; name a path "
            "on this machine (a new run starts from such a model by --init)."
        )
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise ValueError(
            f"{name}: found no home for {Path(name).parts[0]!r}, expected ~ or that of a user; "
            "write the whole path."
        ) from None


def load_json(path: Path) -> Any:
    """The value in a JSON file. Raises OSError, and ValueError as `parse_json` does."""
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:
    """The value of JSON text in UTF-8. Raises ValueError for whatever else the text is."""
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:  # brackets in brackets, as no file of ours has them
        raise ValueError("it is nested too deep") from None


def file_checksum(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """Yields the path of a draft, which does not exist, for a folder that will be `path`.

    The block renames it. If the draft still exists at the end, it is deleted.
    """
    draft = draft_of(path)
    shutil.rmtree(draft, ignore_errors=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_writable(path: Path) -> None:
    """Raises OSError, which names `path`, unless a draft can be written for it.

    What lies at `path` stays, and nothing is left. Missing folders above it are taken for ones that
    will be made: the draft is written in the nearest one that exists.
    """
    above = next(folder for folder in path.absolute().parents if folder.exists())
    draft = draft_of(above / path.name, _own())
    with naming_errors(path, draft):
        draft.touch()
        draft.unlink()


def check_unused(folder: Path) -> None:
    """Raises ValueError where anything lies at `folder` but drafts of killed processes."""
    empty = folder.is_dir() and all(path.name.endswith(UNFINISHED) for path in folder.iterdir())
    if folder.exists() and not empty:
        raise ValueError(
            f"--out: {folder} holds something else, expected a new or empty folder; name another."
        )


def draft_of(path: Path, owner: str = "") -> Path:
    """The path that a file or folder is written to before it is renamed, in the same folder."""
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
