"""The program as a user runs it: it serves a trained run, and refuses what it cannot."""

import re
import signal
import subprocess
import sys

import httpx
import pytest

from mvar_jax.cli.interrupt import INTERRUPTED
from mvar_jax.serving import server
from tests.serving.site import events


@pytest.fixture
def serving(run, trained):
    """The address of the program that serves the smoke run; a Ctrl-C ends it."""
    command = [sys.executable, "-m", "mvar_jax.serve", f"--workdir={trained}", "--port=0"]
    with subprocess.Popen(
        command, env=run.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            yield re.search(r"http://[^/]*", program.stdout.readline())[0]
        finally:
            program.send_signal(signal.SIGINT)
            _, errors = program.communicate(timeout=60)
    assert program.returncode == INTERRUPTED and "Traceback" not in errors


def test_a_trained_run_is_served(serving):
    (model,) = httpx.get(f"{serving}/api/models").json()["models"]
    assert model["class_names"] == [str(digit) for digit in range(10)]
    asked = {"subject": "3", "seed": 1}
    with httpx.stream("POST", f"{serving}/api/draw", json=asked, timeout=300) as answer:
        heard = [event for event in events(answer) if event[0] != "waiting"]
    assert [kind for kind, _ in heard][-1] == "done", heard[-1]


BUSY = """
import time
from mvar_jax.cli.interrupt import end_at_once_when_interrupted
from mvar_jax.serving import server
from mvar_jax.serving.drawing import Event
from tests.serving.site import OFFERS, drawer

class Busy(type(drawer())):
    def __call__(self, job):
        yield Event("loading", {"workdir": "runs/var"})
        time.sleep(600)

end_at_once_when_interrupted()
listening = server.listen("127.0.0.1", 0)
with server.served(drawer(kind=Busy), OFFERS) as application:
    print(server.address(listening), flush=True)
    server.run(application, listening)
"""


def test_an_interrupt_ends_the_server_at_once_while_it_draws():
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            address = re.search(r"http://[^/]*", program.stdout.readline())[0]
            asked = {"subject": "cat"}
            with httpx.stream("POST", f"{address}/api/draw", json=asked, timeout=60) as answer:
                next(kind for kind, _ in events(answer) if kind == "loading")
                program.send_signal(signal.SIGINT)
                _, errors = program.communicate(timeout=30)
        finally:
            program.kill()
    assert program.returncode == INTERRUPTED and errors == "\nstopped\n"


def test_what_cannot_be_served_is_one_sentence(run, trained, tmp_path):
    with server.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        in_use = run("serve", f"--workdir={trained}", f"--port={port}")
    missing = run("serve", f"--workdir={tmp_path}")
    for refused, sentence in (
        (in_use, f"port: {port} of 127.0.0.1 is in use, expected a free one"),
        (missing, str(tmp_path)),
    ):
        assert refused.returncode == 2 and sentence in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_missing_package_is_named_with_its_extra(trained):
    program = (
        "import sys; sys.modules['uvicorn'] = None; from mvar_jax import cli, serve; "
        "cli.run(serve.main, serve.define_flags)"
    )
    command = [sys.executable, "-c", program, f"--workdir={trained}"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "uvicorn: the package is not installed" in refused.stderr
    assert "pip install -e '.[serve]'" in refused.stderr
