"""The compile check as a user runs it; the TPU compiler itself only where it is installed."""

import json

import pytest

from tests.compilation import FIXED_NAMES

SMALL = ("--config=digits.py:runlocal", "--config.model.compute_dtype=bfloat16")


def test_unknown_topology_is_one_sentence(run):
    result = run("compile_check", *SMALL, "--topology=v9:2x2")
    assert result.returncode == 2
    assert result.stderr.strip().endswith("as in v5e:16x16 or v4:4x4x4.")


def test_missing_folder_for_the_figures_is_named(run, tmp_path):
    out = tmp_path / "none" / "figures.json"
    result = run("compile_check", *SMALL, "--topology=v5e:2x2", f"--json={out}")
    assert result.returncode == 2
    assert f"{out.parent} is no folder" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("what", ["train", "sample"])
def test_small_model_on_four_chips(run, tmp_path, what):
    pytest.importorskip("libtpu", reason="the TPU compiler comes with the extra [tpu]")
    out = tmp_path / "figures.json"
    arguments = [*SMALL, "--topology=v5e:2x2", f"--json={out}"]
    result = run("compile_check", *arguments, *(["--sample"] if what == "sample" else []))
    assert result.returncode == 0, result.stderr
    figures = json.loads(out.read_text())
    assert figures.keys() >= FIXED_NAMES
    assert figures["chips"] == 4
    assert 0 < figures["bytes_per_chip"] < figures["bytes_limit"]
    assert 0 < figures["roofline_mfu"] < 1
    assert figures["bytes_exchanged_per_step"] if what == "train" else True
    assert "model FLOPs utilisation" in result.stdout


@pytest.mark.slow
def test_what_does_not_fit_is_named(run):
    pytest.importorskip("libtpu", reason="the TPU compiler comes with the extra [tpu]")
    large = ("--config.batch_size=262144", "--config.mesh.data=4")
    result = run("compile_check", *SMALL, "--topology=v5e:2x2", *large)
    assert result.returncode == 1
    assert "does not fit" in result.stderr
