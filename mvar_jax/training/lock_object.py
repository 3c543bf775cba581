"""A lock that is an object in a bucket, written only in place of the version that was seen."""

import contextlib

from mvar_jax.files import BucketPath, Version, read_version, remove_version, write_version


class LockObject:
    """See `lock.Holder`. No owner is known to be gone: one that died left its object."""

    def __init__(self, path: BucketPath):
        self._path = path
        self._held = Version(b"", 0)

    def take(self) -> bytes:
        """Notes the version of the object that will be replaced."""
        self._held = read_version(self._path)
        return self._held.content

    def beats(self) -> int:
        """The generation of the object."""
        return read_version(self._path).generation

    def claim(self, owner: bytes) -> None:
        """Writes the object in place of the version that was seen."""
        if not self._replace(owner):
            raise BlockingIOError

    def beat(self) -> bool:
        """Writes the object again."""
        return self._replace(self._held.content)

    def release(self) -> None:
        """Deletes the object, if it is still ours."""
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            remove_version(self._path, self._held.generation)

    def leave(self) -> None:
        """Nothing was changed."""

    def owner(self) -> bytes:
        """What the object holds."""
        return read_version(self._path).content

    def _replace(self, content: bytes) -> bool:
        """Writes the object in place of the version that was seen; whether it is ours now."""
        try:
            found = Version(content, write_version(self._path, content, self._held.generation))
        except FileExistsError:  # by another, or by ourselves, if the answer was lost on its way
            found = read_version(self._path)
            if found.content != content:
                return False
        self._held = found
        return True
