"""A working directory becomes an official file, or a sentence says why it cannot."""

import sys
import types

import numpy as np
import pytest

from mvar_jax.config import Config, ModelConfig
from mvar_jax.convert.export_weights import export_weights
from mvar_jax.convert.import_weights import import_weights
from mvar_jax.workdir import Workdir
from tests.convert.models import TOKENIZERS, TRUNKS, official_weights, write_official


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A working directory of an M-VAR and its tokenizer."""
    folder = tmp_path_factory.mktemp("both")
    workdir = Workdir.of(folder / "run")
    for model in (TRUNKS["mvar"], TOKENIZERS["vqvae"]):
        path = write_official(folder / "a.safetensors", official_weights(model))
        import_weights(path, workdir)
    return workdir


def test_the_architecture_chooses_the_half(both, tmp_path):
    for name, architecture in (("mvar", None), ("mvar", "mvar"), ("vqvae", "vqvae")):
        model = (TRUNKS | TOKENIZERS)[name]
        given = write_official(tmp_path / "a.safetensors", official_weights(model))
        summary = export_weights(both, tmp_path / "b.safetensors", architecture)
        assert (tmp_path / "b.safetensors").read_bytes() == given.read_bytes()
        assert summary == f"{name} of {len(official_weights(model))} tensors"
    with pytest.raises(ValueError, match=r"--arch: got var, but .* holds the weights of mvar"):
        export_weights(both, tmp_path / "c.safetensors", "var")


def test_pytorch_is_given_the_same_arrays(both, tmp_path, monkeypatch):
    torch = types.ModuleType("torch")
    torch.from_numpy = np.copy
    torch.save = lambda state, file: np.savez(file.open("wb"), **state)
    torch.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "torch", torch)
    export_weights(both, tmp_path / "a.pth")
    with np.load(tmp_path / "a.pth") as saved:
        expected = official_weights(TRUNKS["mvar"])
        assert list(saved) == list(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(saved[name], array)
            assert saved[name].dtype == array.dtype


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.bin", r"a\.bin.*expected a name that ends in \.safetensors or \.pth"),
        ("a.pth", "needs PyTorch"),
    ],
)
def test_formats_that_cannot_be_written(both, tmp_path, monkeypatch, name, words):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=words):
        export_weights(both, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_hybrids_are_refused(tmp_path):
    workdir = Workdir.of(tmp_path / "run")
    model = ModelConfig(depth=2, width=64, heads=1, pattern=("scale+ssm", "history"))
    workdir.save_config(Config(model=model))
    (workdir.checkpoints / "0").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"model\.pattern: got .*no official file can hold"):
        export_weights(workdir, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_classes_of_bits_are_refused(tmp_path):
    model = ModelConfig(num_classes=3, depth=1, width=64, heads=1, pattern=("history",))
    workdir = Workdir.of(tmp_path / "run")
    workdir.save_config(Config(model=model, tokenizer=TOKENIZERS["bsqvae"]))
    with pytest.raises(ValueError, match=r"tokenizer\.quantizer: got bsq, .* no official file"):
        export_weights(workdir, tmp_path / "a.safetensors", "var")


def test_an_empty_directory_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        export_weights(Workdir.of(tmp_path), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_failure_while_writing_leaves_the_old_file(both, tmp_path, monkeypatch):
    out = tmp_path / "a.safetensors"
    out.write_text("old")

    def fail(file, about, tensors):
        file.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr("mvar_jax.convert.export_weights.write_safetensors", fail)
    with pytest.raises(OSError, match="disk full"):
        export_weights(both, out)
    assert [path.name for path in tmp_path.iterdir()] == [out.name] and out.read_text() == "old"
