"""Eight devices, in a process of their own, train as one does."""

import subprocess
import sys

import pytest

from tests.shared import eight_devices


def test_codes_live_alike_on_eight_devices(pytestconfig):
    result = subprocess.run(
        [sys.executable, "-m", "tests.training.codebook_on_meshes"],
        cwd=pytestconfig.rootpath,
        env=eight_devices(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("equal on") == 2


@pytest.mark.parametrize(
    "meshes", [["2,2,2"], pytest.param(["8,1,1", "2,4,1"], marks=pytest.mark.slow)], ids=str
)
def test_meshes_of_eight_devices_train_as_one_device(pytestconfig, meshes):
    result = subprocess.run(
        [sys.executable, "-m", "tests.training.on_meshes", *meshes],
        cwd=pytestconfig.rootpath,
        env=eight_devices(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("equal on") == len(meshes)
