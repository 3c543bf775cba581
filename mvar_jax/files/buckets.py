"""Buckets of Google Cloud Storage: paths there, and moving bytes to and from them.

An object appears whole or not at all, and whoever asks next sees it. There are no folders, only
names with slashes; no renaming, no appending, no locks. `etils.epath` gives paths, by `gcsfs`; the
client of Google, which comes with it, gives the conditions on versions of an object.
"""

import errno
import importlib
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PosixPath, PurePosixPath
from typing import Any

from etils.epath import backend
from etils.epath.gpath import PosixGPath

from mvar_jax.checks import check, first_line, install_command

BUCKETS = "gs://"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", re.ASCII)
PATIENCE = 30.0  # seconds to reach a bucket in, before it is said that it cannot be reached
MISSING, CHANGED, REFUSED = 404, 412, (401, 403)  # status codes of HTTP
NUMBERS = {MISSING: errno.ENOENT, CHANGED: errno.EEXIST}
LOG_IN = (
    "log in by `gcloud auth application-default login`, or give the service account of this "
    "machine the roles storage.objectUser and storage.legacyBucketReader"
)


class BucketPath(PosixGPath, PosixPath):
    """A path in a bucket, with the methods of `pathlib` as far as a bucket has the thing.

    A folder is there while there is a file below it, so that making one does nothing.
    """

    def absolute(self) -> "BucketPath":
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> "BucketPath":
        """Itself: there are no links."""
        return self

    def mkdir(self, mode: int | None = None, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing."""

    def read_bytes(self) -> bytes:
        """What the file holds, by one request. Raises OSError."""
        with naming_bucket_errors(self):
            return file_system().cat_file(str(self))

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """The same as text in UTF-8, by default."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def exists(self) -> bool:
        """Whether there is a file or a folder of this name. Raises OSError if that is unknown."""
        return self._kind() is not None

    def is_file(self) -> bool:
        """Whether there is a file of this name. Raises OSError if that is unknown."""
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Whether there is a file below this name. Raises OSError if that is unknown."""
        return self._kind() == "directory"

    def rglob(self, pattern: str) -> Generator["BucketPath", None, None]:
        """The files below whose names match."""
        for name in objects_below(self):
            if PurePosixPath(name).match(pattern):
                yield self / name

    def _kind(self) -> str | None:
        # fsspec's own tests take every error for "no": a run would begin anew over its files.
        try:
            with naming_bucket_errors(self):
                return file_system().info(str(self))["type"]
        except FileNotFoundError:
            return None


def open_bucket(name: str) -> BucketPath:
    """The path `gs://BUCKET[/KEY]`, as users write it, of a bucket that can be read.

    Raises ValueError, in one sentence, for another name, without the packages or credentials for
    it, and where there is no such bucket or it may not be read.
    """
    bucket, *parts = name.removeprefix(BUCKETS).rstrip("/").split("/")
    check(
        bool(NAME.fullmatch(bucket)) and not {"", ".", ".."} & set(parts) and name.isprintable(),
        f"got {name!r}, expected {BUCKETS}BUCKET/FOLDER, without . and .. in it.",
    )
    _check_readable(bucket)
    return BucketPath(f"{BUCKETS}{'/'.join((bucket, *parts))}")


def check_manageable(path: BucketPath) -> None:
    """Raises ValueError unless the bucket's own settings may be read: Orbax asks before it deletes.

    So a training says it at its start, not when the first checkpoint gets old.
    """
    google, name = client(), path.parts[2]
    with _explained(name, "its settings may not be read"):
        google.get_bucket(name)


def file_system() -> Any:
    """The fsspec file system of buckets, which remembers no listings: others write there too."""
    _need("gcsfs")
    settings = importlib.import_module("fsspec.config").conf.setdefault("gcs", {})
    settings.setdefault("use_listings_cache", False)
    return backend.fsspec_backend.fs(BUCKETS)


@cache
def client() -> Any:
    """Google's client. Raises ValueError without the package, credentials or project."""
    storage = _need("google.cloud.storage")
    try:
        return storage.Client()
    except Exception as error:  # of google.auth, or OSError
        raise ValueError(
            f"{BUCKETS}: got no credentials or no project ({first_line(error)}); {LOG_IN}, and "
            "name the project by GOOGLE_CLOUD_PROJECT."
        ) from None


def upload(file: Path, path: BucketPath) -> None:
    """Writes a file of this machine to a bucket, whole or not at all. Raises OSError."""
    with naming_bucket_errors(path):
        file_system().put_file(str(file), str(path))


def download(path: BucketPath, file: Path) -> None:
    """Writes a file of a bucket to one of this machine. Raises OSError."""
    with naming_bucket_errors(path):
        file_system().get_file(str(path), str(file))


def objects_below(folder: BucketPath) -> dict[str, dict[str, Any]]:
    """The files below a folder by their names relative to it, with size and generation.

    Raises OSError, and ValueError for a name that leads out of the folder.
    """
    start = f"{str(folder).removeprefix(BUCKETS)}/"
    with naming_bucket_errors(folder):
        found = file_system().find(start, detail=True)
    names = {name: name.removeprefix(start) for name in found if name.startswith(start)}
    for name in names.values():
        check(
            not {"", ".", ".."} & set(name.rstrip("/").split("/")) and "\\" not in name,
            f"{folder}: holds {name!r}, which would lie elsewhere on a disk; delete or rename it.",
        )
    return {short: found[name] for name, short in names.items() if not short.endswith("/")}


@contextmanager
def naming_bucket_errors(path: Path) -> Iterator[None]:
    """Turns errors of a bucket, which are of many kinds, into an OSError that names `path`.

    They are of gcsfs, google.api_core, google.auth, requests and others. FileNotFoundError says
    that the bucket has no such file, FileExistsError that it has another version of it.
    """
    try:
        yield
    except Exception as error:
        code = MISSING if isinstance(error, FileNotFoundError) else getattr(error, "code", 0)
        number, said = NUMBERS.get(code, errno.EIO), first_line(error)
        if number == errno.ENOENT:
            said = "the bucket holds nothing of that name"
        raise OSError(number, said, str(path)) from error


@cache
def _check_readable(bucket: str) -> None:
    _need("gcsfs")
    retry = _need("google.cloud.storage.retry").DEFAULT_RETRY.with_timeout(PATIENCE)
    google = client()
    with _explained(bucket, "it may not be read"):
        next(iter(google.list_blobs(bucket, max_results=1, retry=retry)), None)


@contextmanager
def _explained(bucket: str, refused: str) -> Iterator[None]:
    """Raises ValueError, which says what is wrong with a bucket in one sentence."""
    try:
        yield
    except Exception as error:  # of google.api_core, google.auth and requests
        code, said = getattr(error, "code", None), first_line(error)
        by_auth = type(error).__module__.startswith("google.auth")
        what = f"the bucket cannot be reached ({said}); check the connection."
        if code == MISSING:
            what = "there is no such bucket; check its name, or create it."
        elif code in REFUSED or by_auth:
            what = f"{refused} by these credentials ({said}); {LOG_IN}."
        raise ValueError(f"{BUCKETS}{bucket}: {what}") from None


def _need(package: str) -> Any:
    """A package. Raises ValueError where it is missing."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ValueError(
            f"{BUCKETS}: buckets need the packages gcsfs and google-cloud-storage; install them by "
            f"{install_command('gcs')}."
        ) from None
