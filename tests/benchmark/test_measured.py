"""Rows of `benchmark sample` and `benchmark train`, beside another implementation."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from mvar_jax.benchmark.official import builder_of
from mvar_jax.benchmark.placed import check_fits

STAND_IN = Path(__file__).with_name("stand_in.py")
TINY = (
    *("--config=var_imagenet256.py:d16", "--config.model.compute_dtype=float32"),
    *("--config.model.depth=1", "--config.model.width=64", "--config.model.heads=1"),
    *("--config.model.num_classes=4", "--config.tokenizer.base_channels=32"),
    *("--config.tokenizer.scales=((1,1),(2,2))", "--config.tokenizer.image_size=(32,32)"),
    *("--config.tokenizer.vocabulary=16", "--config.sampling.top_k=8", "--repeats=2"),
)
FIXED = {
    *("flops", "bytes_moved", "share_of_matmul", "share_of_copy"),
    *("model", "batch", "device", "images_per_second", "compile_seconds", "peak_bytes"),
    *("seconds", "ratio_to_reference", "matmul_flops_per_second", "copy_bytes_per_second"),
}


@pytest.fixture
def checkout(tmp_path):
    """A folder like a checkout of the official code, and an interpreter that stands in for it."""
    models = tmp_path / "VAR" / "models"
    models.mkdir(parents=True)
    (models / "__init__.py").touch()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    python.chmod(0o755)
    return (f"--reference={tmp_path / 'VAR'}", f"--reference_python={python}")


def rows_of(run, tmp_path, *arguments):
    file = tmp_path / "rows.json"
    result = run("benchmark", *arguments, f"--json={file}")
    assert result.returncode == 0, result.stderr
    rows = json.loads(file.read_text())
    assert len(result.stdout.strip().splitlines()) == 2 + 2 + len(rows)
    return rows


def test_sampling_beside_another_implementation(run, tmp_path, checkout):
    guided = ("--config.model.depth=2", "--config.sampling.guidance_layer=1")
    wide = ("--config.model.width=128", "--config.model.heads=2")
    own = (*TINY, *guided, *wide, "--batch=1,2")
    one, two = rows_of(run, tmp_path, "sample", *own, *checkout)
    assert one["overrides"]["sampling.guidance_layer"] == 1
    assert one["overrides"]["tokenizer.scales"] == [[1, 1], [2, 2]]
    assert (one["image_size"], one["tokens"]) == ([32, 32], 5)
    for row, batch in ((one, 1), (two, 2)):
        assert set(row) >= FIXED | {"seconds_trunk", "seconds_decoder"}
        assert row["batch"] == batch and row["model"] == "var_imagenet256:d16"
        assert row["seconds"] == pytest.approx(batch / row["images_per_second"])
        assert row["seconds"] == pytest.approx(row["seconds_trunk"] + row["seconds_decoder"])
        assert row["ratio_to_reference"] == pytest.approx(60 * batch / row["seconds"])
        assert row["ratio_decoder"] == pytest.approx(40 / row["seconds_decoder"])
        assert len(row["milliseconds_per_scale"]) == 2
        assert min(row["milliseconds_per_scale"]) > 0
    assert two["peak_bytes"] > one["peak_bytes"]


def test_training_beside_another_implementation(run, tmp_path, checkout):
    (row,) = rows_of(run, tmp_path, "train", *TINY, *checkout)
    assert set(row) >= FIXED | {"seconds_forward", "seconds_backward"}
    both = row["seconds_forward"] + row["seconds_backward"]
    assert row["ratio_to_reference"] == pytest.approx(60 / both)
    assert row["ratio_forward"] == pytest.approx(20 / row["seconds_forward"])


def test_a_run_that_the_official_code_fails_keeps_our_row(run, tmp_path, checkout):
    (row,) = rows_of(run, tmp_path, "sample", *TINY, "--batch=3", *checkout)
    assert row["batch"] == 3 and row["ratio_to_reference"] is None
    assert "reference_seconds" not in row


def test_what_the_official_code_says_last_is_said(run, checkout):
    result = run("benchmark", "sample", *TINY, "--config.model.num_classes=5", *checkout)
    assert result.returncode == 2
    assert "No module named 'torch'" in result.stderr and "--reference_python" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_batch_that_cannot_fit_is_refused_before_anything_is_measured(run, tmp_path):
    """10^12 images, of which the last scale has 4 tokens of 64 channels in float32."""
    file = tmp_path / "rows.json"
    result = run("benchmark", "sample", *TINY, f"--batch=1,{10**12}", f"--json={file}")
    assert result.returncode == 2 and not file.exists()
    sentence = "--batch: got 1000000000000, whose tokens take 953674.3 GiB in every layer, of the"
    assert sentence in result.stderr and "expected fewer images." in result.stderr
    assert "Traceback" not in result.stderr and not result.stdout


def test_a_compiled_program_that_does_not_fit_is_refused(monkeypatch):
    compiled = jax.jit(lambda x: x + 1).lower(jnp.ones(2**20)).compile()
    monkeypatch.setattr("mvar_jax.benchmark.placed.memory_limit", lambda: 2**24)
    assert check_fits(compiled, 3).peak == pytest.approx(2**23, rel=0.01)
    with pytest.raises(ValueError, match=r"--batch: got 3, which takes 0\.0 GiB of the 0\.0 GiB"):
        check_fits(compiled, 3, beside=jnp.ones(2**22))


@pytest.mark.parametrize("name", ["build_vae_var", "build_vae_mvar"])
def test_both_repositories_build(name):
    assert builder_of(SimpleNamespace(**{name: "made"})) == "made"
