"""Calibration, sampling and comparison of cache policies as a user runs them, on a small VAR."""

import json

import pytest
from PIL import Image

import mvar_jax
from mvar_jax.cache import Profile

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def var(run, tmp_path_factory):
    """The working directory of a VAR that was trained for two steps."""
    workdir = tmp_path_factory.mktemp("var")
    config = ("--config=digits.py:runlocal", "--config.model.pattern=('history',)")
    result = run("train", *config, "--config.training.steps=2", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return workdir


@pytest.fixture(scope="module")
def profile(run, var, tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "profile.json"
    result = run("calibrate", f"--workdir={var}", "--samples=3", "--batch_size=2", f"--out={path}")
    assert result.returncode == 0, result.stderr
    assert "3/3" in result.stderr
    return path


def test_a_profile_comes_with_pictures(profile, var):
    model = mvar_jax.load(var)
    assert Profile.load(profile).schedule == model.trunk.schedule
    for name in ("hack", "attention"):
        assert Image.open(profile.with_suffix(f".{name}.png")).size[0] > 500


@pytest.mark.parametrize("policy", ["scalekv", "heatkv", "ams_kv"])
def test_other_policies_draw_their_own_picture(run, var, tmp_path, policy):
    path = tmp_path / "profile.json"
    arguments = ("--samples=1", f"--policy={policy}", f"--out={path}")
    result = run("calibrate", f"--workdir={var}", *arguments)
    assert result.returncode == 0, result.stderr
    assert path.with_suffix(f".{policy}.png").is_file()


def test_sampling_prints_both_conventions(run, var, profile, tmp_path):
    out = tmp_path / "grid.png"
    arguments = ("--labels=1", "--policy=hack+int8", "--ratio=0.6", f"--profile={profile}")
    result = run("sample", f"--workdir={var}", *arguments, f"--out={out}")
    assert result.returncode == 0, result.stderr
    assert "of all 30 and" in result.stdout and "of the 14 that the last scale" in result.stdout
    assert out.is_file()


def test_a_comparison_is_written(run, var, profile, tmp_path):
    out = tmp_path / "comparison"
    policies = "--policies=hack@before,streaming_llm@before,snapkv,full+int8"
    sizes = ("--ratios=0.5,0.7", "--samples=4", "--batch_size=2", f"--profile={profile}")
    result = run("compare_policies", f"--workdir={var}", policies, *sizes, f"--out={out}")
    assert result.returncode == 0, result.stderr
    report = json.loads((out / "comparison.json").read_text())
    rows = {(row["policy"], row["ratio"]) for row in report["rows"]}
    assert {("full", 0.0), ("full+int8", 0.0), ("hack@before", 0.7)} <= rows
    assert set(report["refused"]) == {"snapkv 0.5", "snapkv 0.7"}  # its window is 16 of 30
    assert "snapkv" in (out / "comparison.md").read_text()
    for name in ("curves.png", "samples.png"):
        assert Image.open(out / name).size[0] > 200
