"""A lock on a run's directory: two runs in one directory would delete each other's files."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import IO

from absl import logging

from mvar_jax.files import load_json
from mvar_jax.mesh.processes import on_first_process

NAME = "run.lock"
BEAT = 5.0  # seconds between two heartbeats
SILENCE = 20.0  # seconds without a heartbeat after which an owner on another machine is gone


class RunLock:
    """Keeps other runs out of a directory while this one writes there. Use it in a `with` block.

    All processes of a run enter it together; process 0 holds the lock. It is the operating
    system's lock on a file, which is released when its process ends for any reason. Since some
    shared file systems do not pass locks between machines, the owner also touches the file every
    `BEAT` seconds. Only if the last owner was on another machine and did not release the lock, a
    new run waits up to `SILENCE` seconds for a heartbeat before it takes the lock.

    Entering raises ValueError, which names host and process, when another run writes there.
    """

    def __init__(self, directory: Path):
        self._path = directory / NAME
        self._file: IO[str] | None = None
        self._ended = threading.Event()

    def __enter__(self) -> "RunLock":
        on_first_process(self._take)
        return self

    def __exit__(self, *_) -> None:
        if self._file is None:
            return
        self._ended.set()
        self._beating.join()
        self._path.unlink(missing_ok=True)
        self._file.close()

    def _take(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file, carried = _open_locked(self._path)
            owner = _owner(self._path)
            here = carried and owner is not None and owner["host"] == socket.gethostname()
            if owner is not None and not here and self._is_alive(owner):
                file.close()
                raise BlockingIOError
        except BlockingIOError:
            owner = _owner(self._path) or {"host": "unknown", "process": "unknown"}
            raise ValueError(
                f"{self._path.parent}: another run writes here (host {owner['host']}, process "
                f"{owner['process']}); let it end, or use another folder."
            ) from None
        self._file = file
        file.truncate(0)
        json.dump({"host": socket.gethostname(), "process": os.getpid()}, file)
        file.flush()
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()

    def _is_alive(self, owner: dict) -> bool:
        """Whether the file is touched again; clocks of two machines cannot be compared."""
        seen, until = self._path.stat().st_mtime_ns, time.monotonic() + SILENCE
        logging.warning(
            "Waiting %.0f seconds to see whether process %s on host %s still writes in %s.",
            *(SILENCE, owner["process"], owner["host"], self._path.parent),
        )
        while time.monotonic() < until:
            time.sleep(BEAT / 5)
            if self._path.stat().st_mtime_ns != seen:
                return True
        return False

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):  # the file system may be unavailable for a moment
                os.utime(self._path)


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


def _owner(path: Path) -> dict | None:
    """The host and process in the file, None if there is no owner."""
    try:
        owner = load_json(path)
    except (ValueError, OSError):
        return None
    return owner if isinstance(owner, dict) and {"host", "process"} <= set(owner) else None
