"""Objects of a bucket by their versions: what a lock is made of.

Every write gives an object a new number, its generation. A write may be tied to the one that was
seen: it fails if anybody wrote since.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from mvar_jax.checks import first_line
from mvar_jax.files.buckets import BucketPath, client

NUMBERS = {404: errno.ENOENT, 412: errno.EEXIST}  # by status codes of HTTP


class Version(NamedTuple):
    """What an object held, and its generation: 0 where there was none."""

    content: bytes
    generation: int


def read_version(path: BucketPath) -> Version:
    """The object as it is now. Raises OSError."""
    while True:
        blob = _blob(path)
        try:
            with _naming(path):
                blob.reload()
                content = blob.download_as_bytes(if_generation_match=blob.generation)
            return Version(content, blob.generation)
        except FileNotFoundError:
            return Version(b"", 0)
        except FileExistsError:  # written in between
            continue


def write_version(path: BucketPath, content: bytes, seen: int) -> int:
    """Writes an object whose generation is `seen`, 0 for none; returns the new one.

    Raises FileExistsError where it has another one by now, and OSError.
    """
    blob = _blob(path)
    with _naming(path):
        blob.upload_from_string(content, if_generation_match=seen)
    return blob.generation


def remove_version(path: BucketPath, seen: int) -> None:
    """Deletes an object, if its generation is still `seen`. Raises OSError as `write_version`."""
    with _naming(path):
        _blob(path).delete(if_generation_match=seen)


def _blob(path: BucketPath) -> Any:
    return client().bucket(path.parts[2]).blob("/".join(path.parts[3:]))


@contextmanager
def _naming(path: BucketPath) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of google.api_core, google.auth and requests
        number = NUMBERS.get(getattr(error, "code", 0), errno.EIO)
        raise OSError(number, first_line(error), str(path)) from error
