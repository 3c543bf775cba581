"""Eight devices, in a process of their own, encode as one does."""

import subprocess
import sys

from tests.shared import eight_devices


def test_meshes_of_eight_devices_encode_as_one_device(pytestconfig):
    meshes = ["2,2,2", "8,1,1", "1,4,2"]
    result = subprocess.run(
        [sys.executable, "-m", "tests.text.on_meshes", *meshes],
        cwd=pytestconfig.rootpath,
        env=eight_devices(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("equal on") == len(meshes)
