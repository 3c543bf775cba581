"""`python -m mvar_jax.convert` and `mvar_jax.sample` on what it makes, as users run them."""

import os
import pickle
import subprocess
import sys
import zipfile

import pytest
from PIL import Image

from tests.convert import files
from tests.convert.models import TOKENIZERS, TRUNKS, official_weights, write_official


@pytest.fixture
def run(tmp_path):
    """Runs `python -m mvar_jax.PROGRAM ...`; its words are split at spaces."""

    def run(line):
        command = [sys.executable, "-m", *f"mvar_jax.{line}".split()]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def refused(result, word):
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert word in result.stderr
    return True


@pytest.mark.slow
def test_weights_go_in_and_out_and_images_come(run, tmp_path):
    trunk = write_official(tmp_path / "var.safetensors", official_weights(TRUNKS["var"]))
    write_official(tmp_path / "vae.pth", official_weights(TOKENIZERS["vqvae"]))
    result = run("convert import --checkpoint var.safetensors --out trunk --arch var")
    assert result.returncode == 0, result.stderr
    assert result.stdout == ("trunk: var of depth 2, width 64, 1 heads, 3 classes, scales 1,2.\n")
    result = run("convert import --checkpoint vae.pth --out vae --schedule 1,2")
    assert result.returncode == 0, result.stderr
    result = run("convert export --workdir trunk --out again.safetensors")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "again.safetensors").read_bytes() == trunk.read_bytes()
    sample = "sample --checkpoint trunk --tokenizer vae --labels 0,2 --columns 2 --preset picture"
    result = run(f"{sample} --top_k 5 --out grid.png")
    assert result.returncode == 0, result.stderr
    assert Image.open(tmp_path / "grid.png").size[1] > 100
    result = run(f"{sample} --out clamped.png")
    assert result.returncode == 0 and "preset picture: top_k is" in result.stderr
    assert refused(run(f"{sample} --workdir trunk --out other.png"), "one of --workdir and")
    assert not (tmp_path / "other.png").exists()


class Evil:
    """Loading it by pickle, as PyTorch did for years, runs a command."""

    def __reduce__(self):
        return os.system, ("touch it_ran",)


def test_a_checkpoint_that_runs_a_command_is_refused(run, tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.pth", "w") as archive:
        archive.writestr("evil/data.pkl", pickle.dumps({"pos_1LC": Evil()}, 2))
    before = list(tmp_path.iterdir())
    result = run("convert import --checkpoint evil.pth --out new/run")
    assert refused(result, "evil.pth: it holds 'posix.system', expected tensors and plain")
    assert list(tmp_path.iterdir()) == before


def test_shards_that_are_not_all_there_are_refused(run, tmp_path):
    folder = files.write_shards(tmp_path / "infinity", official_weights(TRUNKS["infinity"]))
    (folder / "part-2.safetensors").unlink()
    result = run("convert import --checkpoint infinity --out new/run")
    assert refused(result, "index.json: names the shard 'part-2.safetensors', which is not there")
    assert list(tmp_path.iterdir()) == [folder]


BAD = {
    "convert inport --checkpoint a.pth --out b": "'inport', expected one of import, export",
    "convert import --out b": "--checkpoint",
    "convert import --checkpoint a.pth --out b --schedule 1,two": "'1,two', expected sides as",
    "convert export --workdir a --out b --for training": "--for",
    "convert export --workdir a --out b --for sampling --arch var": "--arch: got one with --for",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_gets_one_sentence(run, tmp_path, line):
    assert refused(run(line), BAD[line])
    assert not list(tmp_path.iterdir())
