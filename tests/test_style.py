"""The code passes the linter, the formatter and the type checker, in one version everywhere."""

import re
import subprocess
import sys

import pytest

TOOLS = {
    "lint": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "types": ["mypy"],
}


@pytest.mark.parametrize("name", TOOLS)
def test_tool(pytestconfig, name):
    result = subprocess.run(
        [sys.executable, "-m", *TOOLS[name]],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


def test_one_version_of_ruff(pytestconfig):
    setup = (pytestconfig.rootpath / "setup.py").read_text()
    hooks = (pytestconfig.rootpath / ".pre-commit-config.yaml").read_text()
    assert re.search(r'"ruff==([\d.]+)"', setup)[1] == re.search(r"rev: v([\d.]+)", hooks)[1]
