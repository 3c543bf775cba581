"""Objects of a bucket by their versions: what a lock is made of.

Every write gives an object a new number, its generation. A write may be tied to the one that was
seen: it fails if anybody wrote since.
"""

from typing import Any, NamedTuple

from mvar_jax.files.buckets import BucketPath, client, naming_bucket_errors


class Version(NamedTuple):
    """What an object held, and its generation: 0 where there was none."""

    content: bytes
    generation: int


def read_version(path: BucketPath) -> Version:
    """The object as it is now. Raises OSError."""
    while True:
        blob = _blob(path)
        try:
            with naming_bucket_errors(path):
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
    with naming_bucket_errors(path):
        blob.upload_from_string(content, if_generation_match=seen)
    return blob.generation


def remove_version(path: BucketPath, seen: int) -> None:
    """Deletes an object, if its generation is still `seen`. Raises OSError as `write_version`."""
    with naming_bucket_errors(path):
        _blob(path).delete(if_generation_match=seen)


def _blob(path: BucketPath) -> Any:
    return client().bucket(path.parts[2]).blob("/".join(path.parts[3:]))
