"""The programs in docs/examples run on small trained models, and do what they say."""

import json
import runpy
import shutil
import tarfile
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import mvar_jax
from mvar_jax.cache import POLICIES
from mvar_jax.data.scenes import CLASSES
from mvar_jax.data.source import load_source
from mvar_jax.evaluation import edit_judge
from mvar_jax.evaluation.caption_judge import CaptionJudge
from mvar_jax.models.checksum import checksum
from mvar_jax.pictures.image_grid import GAP
from mvar_jax.training.lock import NAME
from tests.reference import GOLDEN

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
SIDE = 32 + GAP  # of an image in a picture


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Calls the `main` of an example in an empty directory; policies it defines are forgotten."""
    known = dict(POLICIES)
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](*map(str, arguments))

    yield run
    POLICIES.clear()
    POLICIES.update(known)


def size(path):
    with Image.open(path) as picture:
        return picture.size


def test_every_example_is_short_and_tested():
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    for path in EXAMPLES.glob("*.py"):
        assert path.stem in tests
        assert len(path.read_text(encoding="utf-8").splitlines()) < 40, path


def test_sample(example, trained, capsys):
    example("sample", trained, "digits.png")
    assert size("digits.png")[1] == 2 * SIDE + GAP
    printed = capsys.readouterr().out
    assert "images (4, 32, 32, 3)" in printed and "tokens (4, 1) (4, 4) (4, 9) (4, 16)" in printed
    assert "equal tokens True" in printed


def test_stream(example, trained, capsys):
    example("stream", trained, "growing")
    assert {size(f"growing/{scale}.png") for scale in range(4)} == {(3 * SIDE + GAP, SIDE + GAP)}
    assert "scale 3: 4 x 4 tokens each, 4 scales so far" in capsys.readouterr().out


@pytest.fixture
def named(trained, tmp_path):
    """A model of digits that calls them shapes."""
    shutil.copytree(trained, tmp_path / "named", ignore=shutil.ignore_patterns(NAME))
    (tmp_path / "named" / "classes.json").write_text(json.dumps(CLASSES))
    return tmp_path / "named"


def test_judge_new_classes(example, named, capsys):
    example("judge_new_classes", named, 10, 1, 500)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["ring", "star"]
    shares = np.array([line[1:] for line in lines], float)
    assert shares.shape == (2, 3)
    assert shares[:, 0].mean() > 0.4  # of real scenes, of ten classes


def test_judge_edits(example, named, monkeypatch, capsys):
    monkeypatch.setattr(edit_judge, "CaptionJudge", partial(CaptionJudge, scenes=100))
    judged = example("judge_edits", named, "edits.png", 3)
    assert size("edits.png")[1] == 3 * (64 + GAP) + GAP
    printed = capsys.readouterr().out
    assert f"as asked: {judged.followed.label:.3f} of 3" in printed
    assert 5 < judged.kept_psnr <= judged.reconstruction_psnr + 3 and judged.images.shape[0] == 3


def test_forced_tokens(example, trained):
    first, second = example("forced_tokens", trained, "halves.png")
    assert size("halves.png")[1] == 2 * SIDE + GAP
    for side, (was, again) in enumerate(zip(first.tokens, second.tokens), start=1):
        was, again = (np.asarray(tokens).reshape(-1, side, side) for tokens in (was, again))
        left = (side + 1) // 2
        np.testing.assert_array_equal(again[..., :left], was[..., :left])
    assert np.any(again[..., left:] != was[..., left:])


def test_cache_policy(example, tmp_path, capsys):
    with tarfile.open(GOLDEN / "earlier" / "run.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    example("cache_policy", "run")
    printed = capsys.readouterr().out
    assert printed.startswith("loudest: ") and "equal tokens at the last scale: " in printed


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_train_on_arrays(example, trained, model, digits_directory, tmp_path, capsys, dtype):
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir, ignore=shutil.ignore_patterns(NAME))
    config = json.loads((workdir / "config.json").read_text())
    config["model"]["compute_dtype"] = dtype
    (workdir / "config.json").write_text(json.dumps(config))
    source = load_source("digits", "train", digits_directory)
    images, labels = zip(*((source[i]["image"], source[i]["label"]) for i in range(64)))
    np.savez("mine.npz", images=np.stack(images), labels=np.stack(labels))
    tuned = example("train_on_arrays", workdir, "mine.npz", 3)
    assert capsys.readouterr().out.count("nats per token") == 3
    assert isinstance(tuned, mvar_jax.Model)
    before, after = (m.weights.trunk["class_embedding"] for m in (model, tuned))
    assert before.shape == after.shape and np.any(np.asarray(before) != np.asarray(after))
    assert {leaf.dtype for leaf in jax.tree.leaves(tuned.weights.trunk)} == {np.dtype("f4")}
    assert tuned.checksum == checksum(tuned.weights.trunk) != model.checksum
    assert tuned.sample([3]).images.shape == (1, 32, 32, 3)


def test_damaged_sets(example, tmp_path, capsys):
    random = np.random.default_rng(0)
    (tmp_path / "photographs").mkdir()
    for i in range(5):
        smooth = np.cumsum(random.normal(size=(16, 16, 3)) * 9, axis=1) + 128
        image = Image.fromarray(np.clip(smooth, 0, 255).astype(np.uint8))
        image.save(tmp_path / "photographs" / f"{i}.png")
    example("damaged_sets", str(tmp_path / "photographs"), str(tmp_path))
    sets = {path.stem: np.load(path)["arr_0"] for path in tmp_path.glob("*.npz")}
    half = sets["half_b"].astype(float)
    assert len(sets.pop("half_a")) == 3 and half.shape == (2, 16, 16, 3)
    damage = {name: np.abs(images - half).mean() for name, images in sets.items()}
    for mild, bad in (("jpeg_50", "jpeg_10"), ("blur_1", "blur_3"), ("noise_5", "noise_25")):
        assert 0 < damage[mild] < damage[bad]


def test_held_out_classes(example):
    example("held_out_classes", "scenes", 8, 1, 2)
    images = sorted(path.relative_to("scenes").as_posix() for path in Path("scenes").rglob("*.png"))
    parts = [tuple(image.split("/")[:2]) for image in images]
    assert len(parts) == 8 + 2 * 2 and len(set(parts)) == 10
    assert {name for part, name in parts if part == "new"} == {"ring", "star"}
    assert size(f"scenes/{images[0]}") == (8, 8)
