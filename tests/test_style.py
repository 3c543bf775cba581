"""The code passes the linter and the formatter."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff(pytestconfig, command):
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
