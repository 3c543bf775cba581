"""A lock on a run's directory: two runs in one directory would delete each other's files."""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Protocol

from absl import logging

from mvar_jax.checks import check
from mvar_jax.files import BucketPath
from mvar_jax.mesh.processes import on_first_process
from mvar_jax.training.lock_file import LockFile, read_owner
from mvar_jax.training.lock_object import LockObject

NAME = "run.lock"
BEAT = 5.0  # seconds between two heartbeats
SILENCE = 20.0  # seconds without a heartbeat after which an owner on another machine is gone
ATTEMPTS, PAUSE = 20, 0.1  # to take a lock that nobody seems to own; seconds between two of them


class Holder(Protocol):
    """What holds a lock: a file of a disk, or an object in a bucket."""

    def take(self) -> bytes:
        """Looks at the lock; returns what its last owner left, who may still live.

        Nothing is returned where that owner is known to be gone. Raises BlockingIOError where it is
        known to live.
        """

    def beats(self) -> int:
        """A number that changes with every heartbeat of an owner."""

    def claim(self, owner: bytes) -> None:
        """Becomes the owner. Raises BlockingIOError where another one was first."""

    def beat(self) -> bool:
        """Gives a sign of life; whether the lock is still held. Raises OSError."""

    def release(self) -> None:
        """Gives the lock up."""

    def leave(self) -> None:
        """Leaves the lock to its owner."""

    def owner(self) -> bytes:
        """What its owner left; nothing where there is none."""


class RunLock:
    """Keeps other runs out of a directory while this one writes there. Use it in a `with` block.

    All processes of a run enter it together; process 0 holds the lock. On a disk it is the
    operating system's lock on a file, which is released when its process ends for any reason. Since
    some shared file systems do not pass locks between machines, and buckets have none, the owner
    also gives a sign of life every `BEAT` seconds. Only if the last owner was on another machine,
    or wrote to a bucket, and did not release the lock, a new run waits up to `SILENCE` seconds for
    a heartbeat before it takes the lock.

    Entering raises ValueError, which names host and process, when another run writes there.
    """

    def __init__(self, directory: Path):
        self._directory, self._held, self._lost = directory, False, False
        path = directory / NAME
        self._holder: Holder = LockObject(path) if isinstance(path, BucketPath) else LockFile(path)
        self._ended = threading.Event()

    def __enter__(self) -> "RunLock":
        on_first_process(self._take)
        return self

    def __exit__(self, *_) -> None:
        if not self._held:
            return
        self._ended.set()
        self._beating.join()
        if not self._lost:
            with contextlib.suppress(OSError):  # without heartbeats it is soon free for others
                self._holder.release()

    def check_held(self) -> None:
        """Raises ValueError where another run took the lock: this one was silent for too long."""
        check(
            not self._lost,
            f"{self._directory}: another run took over, since this one gave no sign of life for "
            f"{SILENCE:.0f} seconds; run it again when the other has ended.",
        )

    def _take(self) -> None:
        other = None
        for attempt in range(ATTEMPTS):
            time.sleep(PAUSE if attempt else 0)
            self._held = self._is_taken()
            other = None if self._held else read_owner(self._holder.owner())
            if self._held or other is not None:
                break  # otherwise its owner ends, or begins, just now
        other = other or {"host": "unknown", "process": "unknown"}
        check(
            self._held,
            f"{self._directory}: another run writes here (host {other['host']}, process "
            f"{other['process']}); let it end, or use another folder.",
        )
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()

    def _is_taken(self) -> bool:
        """Tries to take the lock; whether it is ours now, not another's."""
        names = {"host": socket.gethostname(), "process": os.getpid(), "id": uuid.uuid4().hex}
        try:
            owner = read_owner(self._holder.take())
            if owner is not None and self._is_alive(owner):
                self._holder.leave()
                return False
            self._holder.claim(json.dumps(names).encode())
        except BlockingIOError:
            return False
        return True

    def _is_alive(self, owner: dict) -> bool:
        """Whether the owner gives a sign of life; clocks of two machines cannot be compared."""
        seen, until = self._holder.beats(), time.monotonic() + SILENCE
        logging.warning(
            "Waiting %.0f seconds to see whether process %s on host %s still writes in %s.",
            *(SILENCE, owner["process"], owner["host"], self._directory),
        )
        while time.monotonic() < until:
            time.sleep(BEAT / 5)
            if self._holder.beats() != seen:
                return True
        return False

    def _beat(self) -> None:
        while not self._lost and not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):  # the file system may be unavailable for a moment
                self._lost = not self._holder.beat()
