"""What is made once in a run of the tests, and shared by its processes."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def made_once(root: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The directory `name`, filled by `make` in the first process that asks for it.

    `root` is the session's temporary directory; the workers of pytest-xdist have theirs in one.
    The other processes wait.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, done = root / name, root / f"{name}.done"
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
