"""Text files that grow line by line, such as the log of a run.

Objects of a bucket cannot grow. There every addition is an object of its own, `FILE.parts/N`, N
being the number of bytes before it, until the file is closed and they are put together. So the
text is the object, and behind it every part that begins where the text ends: parts that have
been put together, by a process that was killed before it deleted them, do not.
"""

from pathlib import Path

from mvar_jax.files.buckets import BucketPath
from mvar_jax.files.folders import names_below
from mvar_jax.files.whole import naming_errors, write_text


class GrowingFile:
    """A file that `text` is written to, whole, then more behind it. Raises OSError.

    Additions are there at once, for whoever reads with `read_grown`.
    """

    def __init__(self, path: Path, text: str):
        self._path, self._size = path, len(text.encode())
        self._parts = 0
        write_text(path, text)
        _remove_parts(path)

    def append(self, text: str) -> None:
        """Adds a text."""
        if isinstance(self._path, BucketPath):
            write_text(_parts(self._path) / f"{self._size:015d}", text)
            self._parts += 1
        else:
            with naming_errors(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(text)
        self._size += len(text.encode())

    def close(self) -> None:
        """Puts the parts together, if there are any."""
        if self._parts:
            write_text(self._path, read_grown(self._path).decode())
            _remove_parts(self._path)


def read_grown(path: Path) -> bytes:
    """The bytes of a file that grows, also while it does; none where it is not there."""
    if not isinstance(path, BucketPath):
        return path.read_bytes() if path.exists() else b""
    while True:
        parts = names_below(_parts(path))
        text = path.read_bytes() if path.exists() else b""
        try:
            for name in parts:
                if int(name) == len(text):
                    text += (_parts(path) / name).read_bytes()
            return text
        except FileNotFoundError:  # they were put together meanwhile
            continue


def _parts(path: Path) -> Path:
    return path.with_name(f"{path.name}.parts")


def _remove_parts(path: Path) -> None:
    """Deletes the parts, the last first, so that what is left of them has no gap."""
    if isinstance(path, BucketPath):
        for name in reversed(names_below(_parts(path))):
            (_parts(path) / name).unlink(missing_ok=True)
