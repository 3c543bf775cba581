"""The command `python -m mvar_jax.evaluate sample` as a user runs it."""

import hashlib
import json
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.shared import eight_devices

SMALL = ("--num=23", "--batch_size=4", "--preset=fid")


@pytest.fixture(scope="module")
def drawn(run, trained, tmp_path_factory):
    """What a command wrote; do not write there."""
    out = tmp_path_factory.mktemp("evaluate") / "out"
    result = run("evaluate", "sample", f"--workdir={trained}", *SMALL, f"--out={out}")
    assert result.returncode == 0, result.stderr
    assert f"now in {out}; their SHA-256 is {checksum(out)}." in result.stdout
    assert "sample: image 23/23" in result.stderr
    return out


def checksum(out):
    return hashlib.sha256((out / "samples.npz").read_bytes()).hexdigest()


def test_samples_and_their_manifest(drawn):
    with np.load(drawn / "samples.npz") as arrays:
        assert arrays["arr_0"].shape == (23, 32, 32, 3)
    manifest = json.loads((drawn / "manifest.json").read_text())
    settings = manifest["settings"]
    assert settings["weights"].keys() == {"trunk", "tokenizer"} and settings["policy"] == {}
    assert settings["sampling"] == {
        "guidance": 1.5,
        "guidance_layer": 0,
        "guidance_ramp": True,
        "smooth": False,
        "temperature": 1.0,
        "top_k": 128,
        "top_p": 0.96,
    }
    assert settings["labels"] == "classes 0 to 9, in turn; the last image has 2"
    names = {"mvar_jax", "jax", "jaxlib", "numpy", "device", "matmul_precision"}
    assert manifest["environment"].keys() == names
    assert manifest["sha256"] == checksum(drawn)


def test_again_it_says_that_all_is_there(run, trained, drawn):
    before = (drawn / "samples.npz").stat().st_mtime_ns
    result = run("evaluate", "sample", f"--workdir={trained}", *SMALL, f"--out={drawn}")
    assert result.returncode == 0 and "already in" in result.stdout, result.stderr
    assert (drawn / "samples.npz").stat().st_mtime_ns == before


BAD = {
    "other": ("--num=23 --out={drawn}", "holds samples of images_per_device=4, got 64"),
    "folder": ("--num=23 --out={trained}", "holds something else"),
    "number": ("--out={new}", "--num is missing"),
    "prompts": ("--num=2 --prompts=a.txt --out={new}", "--prompts: the model draws classes"),
    "layout": ("--layout=geneval --out={new}", "evaluation_metadata.jsonl"),
    "policy": ("--num=2 --ratio=0.5 --out={new}", "--ratio: got no --policy for it"),
    "setting": ("--num=2 --top_k=999 --out={new}", "top_k: got 999"),
    "none": ("--num=0 --out={new}", "--num"),
}


@pytest.mark.parametrize("arguments, message", BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence(run, trained, drawn, tmp_path, arguments, message):
    places = {"trained": trained, "drawn": drawn, "new": tmp_path / "new"}
    command = arguments.format(**places).split()
    result = run("evaluate", "sample", f"--workdir={trained}", *command)
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 2 and last.startswith("error: ") and message in last, result.stderr
    assert not list(tmp_path.iterdir())


def start(trained, out, environment, *arguments):
    command = ["-m", "mvar_jax.evaluate", "sample", f"--workdir={trained}", f"--out={out}"]
    return subprocess.Popen(
        [sys.executable, *command, *arguments],
        cwd=out.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes):
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said


def wait_for_parts(out, count):
    while len(list((out / "parts").glob("*.npy"))) < count:
        time.sleep(0.005)


def pair(trained, out, environment):
    """Two processes that draw together."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        cluster = (f"--coordinator=localhost:{free.getsockname()[1]}", "--num_processes=2")
    arguments = [(*SMALL, *cluster, f"--process_id={index}") for index in range(2)]
    return [start(trained, out, environment, *own) for own in arguments]


@pytest.mark.slow
def test_two_processes_that_are_killed_draw_what_one_does(run, trained, drawn, tmp_path):
    out = tmp_path / "out"
    processes = pair(trained, out, run.environment)
    wait_for_parts(out, 1)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(pair(trained, out, run.environment))
    assert checksum(out) == checksum(drawn)


@pytest.mark.slow
def test_eight_devices_draw_what_one_does(run, trained, drawn, tmp_path):
    out = tmp_path / "out"
    finish([start(trained, out, {**run.environment, **eight_devices()}, *SMALL)])
    assert checksum(out) == checksum(drawn)
