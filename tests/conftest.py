"""What tests of several rooms share."""

import gc
import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import huggingface_hub.constants
import hypothesis
import jax
import pytest

import mvar_jax
from mvar_jax.data.source import load_source
from mvar_jax.files import user_path
from mvar_jax.files.buckets import client
from tests.files.emulator import emulator
from tests.hub.stand_in import StandIn
from tests.shared import made_once, quick_flags

MOST_MAPPINGS = 20_000
HUB_FILES = "/{repo_id}/resolve/{revision}/{filename}"

# The same examples in every run; compiling takes longer than any deadline.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


def pytest_configure(config):
    """Compiles quickly, and once for all programs, kernels and workers of a run.

    XLA reads its flags once. The environment is left as it was, for programs of other flags.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", quick_flags())
        jax.devices()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="mvar_jax_compiled_")
        config.add_cleanup(folder.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name  # for workers and subprocesses
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"


def pytest_collection_finish():
    """Looks for garbage rarely, and never among what was imported: a twentieth of the time."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.fixture(autouse=True)
def programs_leave_room():
    """Forgets compiled programs before the process has as many memory mappings as Linux allows.

    Each program takes dozens; at 65,530 the process is aborted.
    """
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def digits_directory(tmp_path_factory):
    """A directory of TFDS data that holds the digits, prepared once for all tests."""
    root = tmp_path_factory.getbasetemp()
    return str(made_once(root, "tfds", lambda folder: load_source("digits", "train", str(folder))))


@pytest.fixture(scope="session")
def run(digits_directory, tmp_path_factory):
    """Runs `python -m mvar_jax.PROGRAM ...` in an empty directory outside of the clone."""
    folder = tmp_path_factory.mktemp("elsewhere")
    own = {"XLA_FLAGS": quick_flags(), "TFDS_DATA_DIR": digits_directory}
    environment = {**os.environ, **own}

    def run(program, *arguments):
        command = [sys.executable, "-m", f"mvar_jax.{program}", *map(str, arguments)]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )

    run.environment = environment
    return run


@pytest.fixture(scope="session")
def trained(run, tmp_path_factory):
    """The working directory of a smoke run of the quickstart, trained once; do not write there."""

    def train(folder):
        result = run("quickstart", "--preset=runlocal", f"--workdir={folder}")
        assert result.returncode == 0, result.stderr

    return made_once(tmp_path_factory.getbasetemp(), "trained", train)


@pytest.fixture(scope="session")
def model(trained):
    """The model of `trained`."""
    return mvar_jax.load(trained)


@pytest.fixture(scope="session")
def storage():
    """The environment of an emulator of Google Cloud Storage, which this process uses too."""
    with emulator() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment
        client.cache_clear()


@pytest.fixture
def bucket(storage, tmp_path, monkeypatch):
    """A bucket of its own, `gs://NAME`, with a cache of its own on this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = f"test-{uuid.uuid4().hex[:12]}"
    client().create_bucket(name)
    return user_path(f"gs://{name}")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The stand-in, which `huggingface_hub` asks in this process, with a cache of its own."""
    stand_in = StandIn()
    stand_in.cache = tmp_path / "home" / "hub"
    with stand_in.running() as endpoint:
        stand_in.environment = {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
        }
        settings = {
            "ENDPOINT": endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + HUB_FILES,
            "HF_HUB_CACHE": str(stand_in.cache),
            "HF_TOKEN_PATH": str(tmp_path / "home" / "token"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        }
        for name, value in settings.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield stand_in
