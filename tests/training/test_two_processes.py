"""Two processes that train together: they save one checkpoint, and stop at the same step."""

import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from mvar_jax.training.parameters import load_params
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


def finish(processes):
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return said


def wait_for_rows(folder, count):
    log = folder / "metrics.jsonl"
    while not log.exists() or len(log.read_bytes().splitlines()) < count:
        time.sleep(0.01)


@pytest.mark.slow
def test_asked_to_stop_both_save_and_go_on_together_or_alone(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    finish(start(whole, 2))
    processes = start(stopped, 2)
    wait_for_rows(stopped, 40)
    processes[1].send_signal(signal.SIGTERM)
    first, second = finish(processes)
    assert "toy: asked to stop, saved step" in first and "toy:" not in second
    processes = start(stopped, 2)
    wait_for_rows(stopped, 230)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    said = finish(start(stopped, 1))[0]
    print(said.splitlines()[0])
    assert "toy: resuming at step 2" in said
    logs = [(folder / "metrics.jsonl").read_bytes() for folder in (whole, stopped)]
    assert logs[0] == logs[1]
    ends = [
        load_params(f / "checkpoints", {"w": np.zeros(4, np.float32)}) for f in (whole, stopped)
    ]
    np.testing.assert_array_equal(ends[0]["w"], ends[1]["w"])
