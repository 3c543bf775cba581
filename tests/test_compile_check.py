"""The compile check as a user runs it; the compilers themselves only where they are installed."""

import json

import pytest

from tests.compilation import FIXED_NAMES

GPU_COMPILER = "jax_cuda12_plugin"
SMALL = ("--config=digits.py:runlocal", "--config.model.compute_dtype=bfloat16")


def test_unknown_topology_is_one_sentence(run):
    result = run("compile_check", *SMALL, "--topology=v9:2x2")
    assert result.returncode == 2
    assert result.stderr.strip().endswith("or h100:2x8 for 2 hosts of 8 GPUs.")


@pytest.mark.parametrize("topology", ["h100:8", "h100:0x8"])
def test_a_shape_that_no_gpus_have_is_one_sentence(run, topology):
    result = run("compile_check", *SMALL, f"--topology={topology}")
    assert result.returncode == 2
    assert result.stderr.strip().endswith("as in h100:1x8.")


def test_a_sampler_and_a_training_at_once_are_one_sentence(run):
    result = run("compile_check", *SMALL, "--topology=v5e:2x2", "--sample", "--train_tokenizer")
    assert result.returncode == 2
    assert "At most one of (sample, train_tokenizer)" in result.stderr


def test_missing_folder_for_the_figures_is_named(run, tmp_path):
    out = tmp_path / "none" / "figures.json"
    result = run("compile_check", *SMALL, "--topology=v5e:2x2", f"--json={out}")
    assert result.returncode == 2
    assert (
        f"{str(out)!r}, expected a name that ends in .json, in a folder that exists"
        in result.stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize("what", ["train", "sample", "train_tokenizer"])
def test_small_model_on_four_chips(run, tmp_path, what):
    pytest.importorskip("libtpu", reason="the TPU compiler comes with the extra [tpu]")
    out = tmp_path / "figures.json"
    arguments = [*SMALL, "--topology=v5e:2x2", f"--json={out}"]
    result = run("compile_check", *arguments, *([] if what == "train" else [f"--{what}"]))
    assert result.returncode == 0, result.stderr
    figures = json.loads(out.read_text())
    assert figures.keys() >= FIXED_NAMES
    assert figures["chips"] == 4
    assert 0 < figures["bytes_per_chip"] < figures["bytes_limit"]
    assert 0 < figures["roofline_mfu"] < 1
    assert figures["bytes_exchanged_per_step"] if what != "sample" else True
    whose = "program" if what == "train_tokenizer" else "model"
    assert f"{whose} FLOPs utilisation" in result.stdout
    assert figures["roofline_mfu_of"] == whose


@pytest.mark.slow
def test_what_does_not_fit_is_named(run):
    pytest.importorskip("libtpu", reason="the TPU compiler comes with the extra [tpu]")
    large = ("--config.batch_size=262144", "--config.mesh.data=4")
    result = run("compile_check", *SMALL, "--topology=v5e:2x2", *large)
    assert result.returncode == 1
    assert "does not fit" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("what", ["train", "sample"])
def test_small_model_on_two_hosts_of_gpus(run, tmp_path, what):
    pytest.importorskip(GPU_COMPILER, reason="it comes with the extra [gpu_compiler]")
    out = tmp_path / "figures.json"
    mesh = ("--config.mesh.data=2", "--config.mesh.fsdp=2")
    arguments = [*SMALL, "--topology=h100:2x2", *mesh, f"--json={out}"]
    result = run("compile_check", *arguments, *(["--sample"] if what == "sample" else []))
    assert result.returncode == 0, result.stderr
    figures = json.loads(out.read_text())
    assert figures.keys() >= FIXED_NAMES
    assert figures["chips"] == 4
    assert 0 < figures["bytes_per_chip"] < figures["bytes_limit"] < 80 * 2**30
    assert 0 < figures["roofline_mfu"] < 1
    # The matmuls, which are cuBLAS's, are counted.
    assert figures["flops_per_step"] > 0.9 * figures["model_flops_per_step"]
    if what == "train":
        exchanged = figures["bytes_exchanged_per_step"]
        assert 0 < figures["bytes_between_hosts_per_step"] <= sum(exchanged.values())


@pytest.mark.slow
def test_a_batch_that_the_gpus_do_not_divide_is_one_sentence(run):
    pytest.importorskip(GPU_COMPILER, reason="it comes with the extra [gpu_compiler]")
    result = run("compile_check", *SMALL, "--topology=h100:1x3")
    assert result.returncode == 2
    assert "batch_size: got" in result.stderr
