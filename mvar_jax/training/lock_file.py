"""A lock that is a file of a disk, by the lock of the operating system on it."""

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from mvar_jax.files import parse_json


class LockFile:
    """See `lock.Holder`. An owner on this machine is known to be gone if the file is unlocked."""

    def __init__(self, path: Path):
        self._path = path
        self._file: IO[str] | None = None

    def take(self) -> bytes:
        """Locks the file, where the file system can."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file, carried = _open_locked(self._path)
        left = self.owner()
        owner = read_owner(left)
        gone = carried and owner is not None and owner["host"] == socket.gethostname()
        return b"" if gone else left

    def beats(self) -> int:
        """When the file was last touched, in nanoseconds; 0 where its owner deleted it."""
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def claim(self, owner: bytes) -> None:
        """Writes the owner to the file, which is locked."""
        assert self._file is not None
        self._file.truncate(0)
        self._file.write(owner.decode())
        self._file.flush()

    def beat(self) -> bool:
        """Touches the file."""
        os.utime(self._path)
        return True

    def release(self) -> None:
        """Deletes the file. Raises OSError where that fails; it is unlocked all the same."""
        try:
            self._path.unlink(missing_ok=True)
        finally:
            self.leave()

    def leave(self) -> None:
        """Unlocks the file."""
        assert self._file is not None
        self._file.close()

    def owner(self) -> bytes:
        """What the file holds."""
        try:
            return self._path.read_bytes()
        except OSError:
            return b""


def read_owner(left: bytes) -> dict | None:
    """The host and process of who wrote to a lock; None where nobody did, or not this."""
    try:
        owner = parse_json(left)
    except ValueError:
        return None
    return owner if isinstance(owner, dict) and {"host", "process"} <= set(owner) else None


def _open_locked(path: Path) -> tuple[IO[str], bool]:
    """The file, and whether it is locked: some file systems support no locks.

    Raises BlockingIOError if another process holds the lock.
    """
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            carried = _lock(file)
        except OSError:
            file.close()
            raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file, carried
        file.close()  # its owner deleted it meanwhile


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.ENOLCK):
            return False
        raise
    return True
