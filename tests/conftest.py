"""What tests of several rooms share."""

import os
import subprocess
import sys
import tempfile

import hypothesis
import pytest

import mvar_jax
from mvar_jax.cli.programs import OPTIMIZATION
from mvar_jax.data.source import load_source
from tests.shared import made_once

# The same examples in every run; compiling takes longer than any deadline.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


def pytest_configure(config):
    """Compiles quickly, and once for all programs, kernels and workers of a run."""
    flags = os.environ.get("XLA_FLAGS", "")
    if OPTIMIZATION not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {OPTIMIZATION}=0".strip()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="mvar_jax_compiled_")
        config.add_cleanup(folder.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name  # for workers and subprocesses
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"


@pytest.fixture(scope="session")
def digits_directory(tmp_path_factory):
    """A directory of TFDS data that holds the digits, prepared once for all tests."""
    root = tmp_path_factory.getbasetemp()
    return str(made_once(root, "tfds", lambda folder: load_source("digits", "train", str(folder))))


@pytest.fixture(scope="session")
def run(digits_directory, tmp_path_factory):
    """Runs `python -m mvar_jax.PROGRAM ...` in an empty directory outside of the clone."""
    folder = tmp_path_factory.mktemp("elsewhere")
    environment = {**os.environ, "TFDS_DATA_DIR": digits_directory}

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
