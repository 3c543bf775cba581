"""A lock that another process holds."""

import contextlib
import subprocess
import sys

HOLD = """
import sys, time
from mvar_jax.files import user_path
from mvar_jax.training.lock import RunLock
with RunLock(user_path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def held_elsewhere(directory):
    """A process that holds the lock of a directory, on a disk or in a bucket."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
