"""Two processes that train together: they save one checkpoint, and stop at the same step."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from mvar_jax.mesh.processes import TRY_AGAIN
from tests.training import two_processes


def start(folder, count):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, "-m", two_processes.__name__, str(i), str(count), str(port), folder],
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]


def finish(processes, code=0):
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [code] * len(processes), said
    return said


def wait_for_rows(folder, count):
    log = folder / "metrics.jsonl"
    while not log.exists() or len(log.read_bytes().splitlines()) < count:
        time.sleep(0.01)


@pytest.mark.slow
def test_after_sigterm_both_save_and_resume_together_or_alone(tmp_path):
    whole, stopped, alone = (tmp_path / name for name in ("whole", "stopped", "alone"))
    finish(start(whole, 2))
    processes = start(stopped, 2)
    wait_for_rows(stopped, 40)
    processes[1].send_signal(signal.SIGTERM)
    first, second = finish(processes, TRY_AGAIN)
    assert "toy: asked to stop, saved step" in first and "toy:" not in second
    processes = start(stopped, 2)
    wait_for_rows(stopped, 230)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    shutil.copytree(stopped, alone)
    finish(start(stopped, 2))
    said = finish(start(alone, 1))[0]
    assert rows(stopped) == rows(whole)
    assert (stopped / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    resumed = int(re.search(r"resuming at step (\d+)", said)[1])
    assert resumed >= 200
    assert rows(alone)[:resumed] == rows(whole)[:resumed]
    losses = [[row["loss"] for row in rows(folder)] for folder in (alone, whole)]
    np.testing.assert_allclose(*losses, rtol=1e-5)  # one device adds up in another order


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
