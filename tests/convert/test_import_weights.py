"""Official weights become working directories, whole ones or none."""

import dataclasses
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import mvar_jax
from mvar_jax.config import ModelConfig
from mvar_jax.config.infinity import infinity
from mvar_jax.config.tree import from_config_dict
from mvar_jax.convert.export_weights import export_weights
from mvar_jax.convert.import_weights import import_weights
from mvar_jax.convert.state_dict import trunk_state
from mvar_jax.files import draft_of
from mvar_jax.models import Trunk, build_trunk
from mvar_jax.scales import VAR_256, ScaleSchedule
from mvar_jax.workdir import Workdir
from tests.convert import files
from tests.convert.models import (
    MODELS,
    SCHEDULE,
    TOKENIZERS,
    TRUNKS,
    official_weights,
    text_trunk,
    write_official,
)

VAR, VQVAE, TEXT = TRUNKS["var"], TOKENIZERS["vqvae"], TRUNKS["infinity"]


def bring(path, model, out, schedule=None, **changes):
    """Imports a model from a file that is written for it, with changed tensors."""
    write_official(path, {**official_weights(model), **changes})
    return import_weights(path, Workdir.of(out), schedule=schedule)


def schedule_of(model):
    """What the file does not hold."""
    held = isinstance(model, Trunk) and model.config.condition == "class"
    return None if held else model.schedule


@pytest.mark.parametrize("name", MODELS)
def test_import_and_export_give_the_same_file(tmp_path, name):
    model = MODELS[name]
    given = tmp_path / "given.safetensors"
    bring(given, model, tmp_path / "run", schedule_of(model))
    workdir, out = Workdir.of(tmp_path / "run"), tmp_path / "out.safetensors"
    export_weights(workdir, out)
    assert out.read_bytes() == given.read_bytes()
    half = workdir if isinstance(model, Trunk) else workdir.tokenizer
    assert model in (half.config().tokenizer, build_trunk(half.config()))
    assert {path.name for path in tmp_path.iterdir()} == {"given.safetensors", "run", out.name}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A directory that got a trunk from a training checkpoint, then its tokenizer."""
    folder = tmp_path_factory.mktemp("imported")
    module = {f"module.{name}": array for name, array in official_weights(VAR).items()}
    checkpoint = {
        "epoch": 3,
        "trainer": {
            "var_wo_ddp": module,
            "vae_local": official_weights(VQVAE),
            "var_opt": {"state": {0: {"exp_avg": np.ones(3, np.float32)}}, "lr": [1e-4]},
        },
    }
    path, run = files.write_pth(folder / "ar-ckpt.pth", checkpoint), folder / "deep" / "run"
    assert import_weights(path, Workdir.of(run)) == (
        "var of depth 2, width 64, 1 heads, 3 classes, scales 1,2"
    )
    assert import_weights(path, Workdir.of(run), "vqvae") == (
        "vqvae of 32 channels, 24 codes of 4 channels, scales 1,2"
    )
    return run


def test_a_trunk_and_a_tokenizer_can_be_sampled(imported, tmp_path):
    model = mvar_jax.load(imported)
    assert model.config.tokenizer == VQVAE
    assert sorted(path.name for path in imported.iterdir()) == [
        "checkpoints",
        "config.json",
        "tokenizer",
    ]
    samples = model.sample([0, 2, 1])
    assert samples.images.shape == (3, 4, 4, 3) and np.isfinite(samples.images).all()
    np.testing.assert_array_equal(
        model.weights.trunk["class_embedding"], official_weights(VAR)["class_emb.weight"]
    )


def test_a_trunk_of_texts_from_shards_and_from_a_training(tmp_path):
    weights = official_weights(TEXT)
    given = write_official(tmp_path / "given.safetensors", weights)
    average = {name: array + np.float32(1) for name, array in weights.items()}
    checkpoint = {"trainer": {"gpt_fsdp": average, "gpt_ema_fsdp": weights}, "args": {"lr": 0.1}}
    sources = {
        "": files.write_shards(tmp_path / "shards", weights),
        ", the average of a training checkpoint": files.write_pth(tmp_path / "a.pth", checkpoint),
    }
    for i, (more, source) in enumerate(sources.items()):
        run, out = Workdir.of(tmp_path / f"run{i}"), tmp_path / f"{i}.safetensors"
        assert import_weights(source, run, schedule=SCHEDULE) == (
            "infinity of depth 2, width 32, 2 heads, 5 bits a token, texts of 20 tokens with 32 "
            f"channels, scales 1,2{more}"
        )
        export_weights(run, out)
        assert out.read_bytes() == given.read_bytes()


def test_a_trunk_of_texts_gets_the_published_scales_tokenizer_and_sampling(tmp_path):
    official = from_config_dict(infinity("8b"))
    model = text_trunk(schedule=SCHEDULE, bits=official.tokenizer.token_channels)
    weights = {name: array for name, array in official_weights(model).items()}
    weights["lvl_embed.weight"] = np.ones((13, 32), np.float32)
    import_weights(write_official(tmp_path / "a.pth", weights), Workdir.of(tmp_path / "run"))
    config = Workdir.of(tmp_path / "run").config()
    assert config.tokenizer == official.tokenizer and config.sampling == official.sampling
    with pytest.raises(ValueError, match=r"a\.pth: the scales are .* levels for 4 scales; use"):
        bring(tmp_path / "a.pth", TEXT, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_chunks_of_another_number_are_read(tmp_path):
    depth = 4
    model = text_trunk(depth=depth)
    given = write_official(tmp_path / "a.safetensors", official_weights(model))
    pairs = {
        name.replace(f"block_chunks.{i}.module.0", f"block_chunks.{i // 2}.module.{i % 2}"): array
        for name, array in official_weights(model).items()
        for i in [int(name.split(".")[1]) if name.startswith("block_chunks.") else 0]
    }
    path = write_official(tmp_path / "b.safetensors", pairs)
    import_weights(path, Workdir.of(tmp_path / "run"), schedule=SCHEDULE)
    export_weights(Workdir.of(tmp_path / "run"), tmp_path / "c.safetensors")
    assert (tmp_path / "c.safetensors").read_bytes() == given.read_bytes()


def test_the_other_order_and_two_directories_give_the_same(imported, tmp_path):
    bring(tmp_path / "a.safetensors", VQVAE, tmp_path / "run", SCHEDULE)
    bring(tmp_path / "b.pth", VAR, tmp_path / "alone")
    write_official(tmp_path / "b.safetensors", official_weights(VAR))
    import_weights(tmp_path / "b.safetensors", Workdir.of(tmp_path / "run"))
    whole = mvar_jax.load(imported)
    for model in (
        mvar_jax.load(tmp_path / "run"),
        mvar_jax.load(tmp_path / "alone", tokenizer=tmp_path / "run"),
    ):
        assert model.config == whole.config
        assert model.weights.trunk.keys() == whole.weights.trunk.keys()
        kernels = [m.weights.tokenizer["quantizer"]["codebook"] for m in (model, whole)]
        np.testing.assert_array_equal(*kernels)


def test_a_tokenizer_that_does_not_fit_the_trunk(imported, tmp_path):
    run = tmp_path / "run"
    bring(tmp_path / "a.pth", VAR, run)
    before = sorted(run.rglob("*"))
    other = dataclasses.replace(VQVAE, vocabulary=25)
    with pytest.raises(ValueError, match=r"vocabulary=24, but the tokenizer has 25"):
        bring(tmp_path / "b.pth", other, run)
    with pytest.raises(ValueError, match=r"tokenizer\.scales=.*--schedule"):
        bring(tmp_path / "b.pth", VQVAE, run, ScaleSchedule.squares(1, 3))
    assert sorted(run.rglob("*")) == before
    bring(tmp_path / "b.pth", other, tmp_path / "other", SCHEDULE)
    with pytest.raises(ValueError, match=r"but the tokenizer has 25"):
        mvar_jax.load(run, tokenizer=tmp_path / "other")
    with pytest.raises(ValueError, match=r"b\.pth: the trunk is made for .* has 25"):
        write_official(tmp_path / "b.pth", official_weights(VAR))
        import_weights(tmp_path / "b.pth", Workdir.of(tmp_path / "other"))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_weights_of_16_bits_become_float32(tmp_path, dtype):
    weights = {
        # Some stay as they are: what is stacked may be of both kinds.
        name: array.astype(dtype) if array.dtype == np.float32 and ".1." not in name else array
        for name, array in official_weights(VAR).items()
    }
    write_official(tmp_path / "a.pth", weights)
    import_weights(tmp_path / "a.pth", Workdir.of(tmp_path / "run"))
    export_weights(Workdir.of(tmp_path / "run"), tmp_path / "b.safetensors")
    widened = {
        name: array.astype(np.float32) if array.dtype == dtype else array
        for name, array in weights.items()
    }
    expected = write_official(tmp_path / "c.safetensors", widened)
    assert (tmp_path / "b.safetensors").read_bytes() == expected.read_bytes()


def missing(name):
    weights = official_weights(VAR)
    return {key: weights[key] for key in weights if key != name}


def write_truncated(path):
    content = write_official(path, official_weights(VAR)).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def text_weights(**changes):
    """Of a trunk of texts, with changed tensors; None leaves one out."""
    weights = {**official_weights(TEXT), **changes}
    return {name: array for name, array in weights.items() if array is not None}


def of_texts(name, value, words):
    """A trunk of texts with one wrong tensor, and what is said of it."""
    return (lambda path: write_official(path, text_weights(**{name: value}))), words


HEAD, PART = "head.weight", "block_chunks.1.module.0.ca.proj.bias"
REFUSED = {
    "text: missing": of_texts(PART, None, f"the tensor {PART} of shape (32,) is missing"),
    "text: shape": of_texts(HEAD, np.ones((9, 32)), "head.weight has shape (9, 32), expected (10,"),
    "text: levels": of_texts("lvl_embed.weight", None, "lvl_embed.weight is missing"),
    "text: width": of_texts(
        "word_embed.weight", np.ones((33, 5)), "width 33 is not divisible by heads 2"
    ),
    "text: another too": of_texts("pos_1LC", np.ones((1, 5, 32)), "the tensor class_emb"),
    "tensor missing": (lambda path: write_official(path, missing("head.bias")), "head.bias"),
    "levels missing": (lambda path: write_official(path, missing("lvl_1L")), "lvl_1L"),
    "truncated": (write_truncated, "truncated"),
    "HTML": (lambda path: path.write_text("<html>404</html>"), "an HTML page"),
    "command": (
        lambda path: files.write_pth(path, {"a": files.Call("os.system", ("exit",))}),
        "os.system",
    ),
    "tensors of two": (
        lambda path: write_official(path, official_weights(VAR) | {"blocks.0.x": np.ones(1)}),
        "blocks.0.x belongs to no such model",
    ),
    "another": (lambda path: write_official(path, {"fc.weight": np.ones(2)}), "fc.weight"),
    "shape": (
        lambda path: write_official(path, official_weights(VAR) | {"head.bias": np.ones(3)}),
        "head.bias has shape (3,), expected (24,)",
    ),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("case", REFUSED)
def test_wrong_files_leave_nothing_behind(tmp_path, case, suffix):
    write, words = REFUSED[case]
    path = tmp_path / f"weights{suffix}"
    write(path)
    schedule = SCHEDULE if case.startswith("text") else None
    with pytest.raises(ValueError) as error:
        import_weights(path, Workdir.of(tmp_path / "deep" / "run"), schedule=schedule)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and words in message
    assert "\n" not in message and message.endswith(".") and not message.endswith("..")
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(directory, arrays):
        next(iter(arrays))
        directory.mkdir()
        raise OSError("disk full")

    monkeypatch.setattr("mvar_jax.convert.import_weights.save_params", fail)
    with pytest.raises(OSError, match="disk full"):
        bring(tmp_path / "a.pth", VAR, tmp_path / "deep" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_what_a_killed_import_left_does_not_matter(tmp_path):
    left = draft_of(tmp_path / "run") / "checkpoints" / "0"
    left.mkdir(parents=True)
    bring(tmp_path / "a.pth", VAR, tmp_path / "run")
    assert {path.name for path in tmp_path.iterdir()} == {"a.pth", "run"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"checkpoints", "config.json"}


def test_what_is_there_is_not_replaced(imported, tmp_path):
    before = sorted(imported.rglob("*"))
    for model, word in ((VAR, "config.json"), (VQVAE, "tokenizer")):
        with pytest.raises(ValueError, match=f"has its own {word} already"):
            bring(tmp_path / "a.pth", model, imported)
    assert sorted(imported.rglob("*")) == before
    with pytest.raises(ValueError, match=r"a\.pth is a file, expected a directory"):
        bring(tmp_path / "a.pth", VAR, tmp_path / "a.pth")


def test_schedules(tmp_path):
    with pytest.raises(ValueError, match="lvl_1L is that of the schedule 1,2; leave --schedule"):
        bring(tmp_path / "a.pth", VAR, tmp_path / "run", VAR_256)
    path = write_official(tmp_path / "b.pth", missing("lvl_1L"))
    import_weights(path, Workdir.of(tmp_path / "run"), schedule=SCHEDULE)
    assert Workdir.of(tmp_path / "run").config().tokenizer.schedule == SCHEDULE
    weights = official_weights(VQVAE)
    del weights["quantize.ema_vocab_hit_SV"]
    import_weights(write_official(tmp_path / "c.pth", weights), Workdir.of(tmp_path / "official"))
    assert Workdir.of(tmp_path / "official").tokenizer.config().tokenizer.schedule == VAR_256


IMPORT = r"""
import re, sys
from pathlib import Path
from mvar_jax.convert.import_weights import import_weights
from mvar_jax.workdir import Workdir

def kilobytes(what):
    return int(re.search(what + r":\s+(\d+) kB", Path("/proc/self/status").read_text())[1])

before = kilobytes("VmRSS")
import_weights(Path(sys.argv[1]), Workdir.of(sys.argv[2]))
print((kilobytes("VmHWM") - before) * 1024)
"""


def test_memory_holds_the_largest_array_once(tmp_path):
    depth, width = 6, 1024
    config = ModelConfig(num_classes=3, depth=depth, width=width, heads=16)
    state, path = trunk_state(Trunk(config, SCHEDULE, 16, 4)), tmp_path / "large.safetensors"
    noise = np.random.default_rng(0)  # does not compress
    arrays = {
        name: noise.standard_normal(item.shape, np.float32) if item.is_parameter else item.make({})
        for name, item in state.items()
    }
    write_official(path, arrays)
    largest = depth * width * 9 * width * 4  # bytes of all layers' modulation
    command = [sys.executable, "-c", IMPORT, path, tmp_path / "run"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert largest < int(result.stdout) < 2 * largest  # with buffers, whose sizes are fixed
