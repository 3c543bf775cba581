"""The programs as a user runs them: from nothing to samples, again, and with bad input."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import mvar_jax
from mvar_jax.experiment.trainings import inherit_trunk
from mvar_jax.pictures.image_grid import growth_grid
from mvar_jax.workdir import Workdir

REPORT_KEYS = {
    "label_accuracy",
    "label_accuracy_unguided",
    "exact_copies",
    "label_accuracy_real",
    "frechet",
    "frechet_real",
    "reconstruction_psnr",
    "codebook_usage",
    "seconds",
    "carried_state_bytes",
}


def test_quickstart_writes_pictures_and_report(trained):
    report = json.loads((trained / "report.json").read_text())
    assert report.keys() >= REPORT_KEYS
    assert report["exact_copies"] == 0
    assert len(report["codebook_usage"]) == 4
    for name in ("samples.png", "reconstructions.png"):
        assert Image.open(trained / name).size[0] > 10 * 32
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 60
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert "validation_loss" in rows[-1]


def test_running_again_trains_nothing(run, trained, tmp_path):
    workdir = tmp_path / "again"
    shutil.copytree(trained, workdir)
    result = run("train", "--config=digits.py:runlocal", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert "nothing to do" in result.stderr
    assert (workdir / "metrics.jsonl").read_bytes() == (trained / "metrics.jsonl").read_bytes()


def test_sample_twice_gives_the_same_bytes(run, trained, tmp_path):
    for name in ("first.png", "second.png"):
        out = tmp_path / name
        arguments = (f"--workdir={trained}", "--labels=3,7", "--seed=0", f"--out={out}")
        result = run("sample", *arguments)
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_growing_draws_a_row_per_image_that_ends_as_the_sample(run, trained, model, tmp_path):
    out = tmp_path / "grown.png"
    arguments = (f"--workdir={trained}", "--labels=3,7", "--columns=1", "--seed=5", f"--out={out}")
    result = run("sample", "--grow", *arguments)
    assert result.returncode == 0, result.stderr
    expected = growth_grid(model.grow([3, 7], seed=5), ["3", "7"], scale=2)
    with Image.open(out) as picture:
        np.testing.assert_allclose(np.asarray(picture, int), np.asarray(expected, int), atol=1)


def test_fine_tuning_starts_from_other_weights(run, trained, tmp_path):
    workdir = tmp_path / "tuned"
    arguments = ("--config=digits.py:runlocal", "--config.training.steps=2", f"--init={trained}")
    result = run("train", *arguments, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    first = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[0])
    begun = json.loads((trained / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] < 0.8 * begun["loss"]
    assert mvar_jax.load(workdir).sample([1]).images.shape == (1, 32, 32, 3)


def test_a_trunk_on_an_untrained_tokenizer_can_be_sampled(run, tmp_path):
    workdir = tmp_path / "smoke"
    arguments = ("--config=digits.py:runlocal", "--config.training.steps=1")
    result = run("train", *arguments, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert mvar_jax.load(workdir).sample([1]).images.shape == (1, 32, 32, 3)


def test_fine_tuning_on_other_classes_keeps_all_but_their_embeddings(trained, model):
    config = replace(model.config, model=replace(model.config.model, num_classes=3))
    params = inherit_trunk(config, Workdir.of(trained))
    embedding, old = params.pop("class_embedding"), model.weights.trunk
    assert embedding.shape == (4, config.model.width)
    np.testing.assert_array_equal(embedding[-1], old["class_embedding"][-1])
    for name, value in params.items():
        jax.tree.map(np.testing.assert_array_equal, value, old[name])


def test_api_samples_by_name_and_index_in_any_batch_size(model):
    samples = model.sample(["3", 7, 7], seed=1)
    assert samples.images.shape == (3, 32, 32, 3)
    assert samples.images.min() >= -1 and samples.images.max() <= 1
    assert [tokens.shape for tokens in samples.tokens] == [(3, 1), (3, 4), (3, 9), (3, 16)]
    again = model.sample([3, 7, 7], seed=1, batch_size=2)
    for one, other in zip(samples.tokens, again.tokens):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(samples.images, again.images, atol=1e-4)
    assert np.any(samples.images != model.sample([3, 7, 7], seed=2).images)


def test_api_grows_into_the_sample(model):
    labels, settings = [3, 7, 7], {"guidance": 2.0, "top_k": 20}
    images = model.grow(labels, seed=1, batch_size=2, **settings)
    assert images.shape == (4, 3, 32, 32, 3) and images.dtype == np.float32
    assert images.min() >= -1 and images.max() <= 1
    sampled = model.sample(labels, seed=1, **settings).images
    np.testing.assert_allclose(images[-1], sampled, atol=1e-4)
    assert all(np.abs(images[scale] - sampled).max() > 0.1 for scale in range(3))


def test_any_name_of_a_class_will_do_unless_others_have_it_too(model):
    birds = replace(model, class_names=("crane", "tench, Tinca tinca", "crane", "sea crane, 2"))
    labels = ["tench", "Tinca tinca", "tench, Tinca tinca", " sea crane", "2", "3", 0]
    assert birds.label_indices(labels).tolist() == [1, 1, 1, 3, 3, 3, 0]
    with pytest.raises(ValueError, match=r"'crane' names the classes \[0, 2\]"):
        birds.label_indices(["crane"])
    with pytest.raises(ValueError, match="0 to 3"):
        birds.label_indices(["Tinca"])


def test_api_refuses_what_it_does_not_know(model):
    for arguments, settings, word in (
        (([10],), {}, "0 to 9"),
        ((["dog"],), {}, "'dog'"),
        (([-1],), {}, "-1"),
        (([],), {}, "none"),
        (([1],), {"strength": 2.0}, "strength"),
        (([1],), {"top_k": 129}, "vocabulary"),
        (([1],), {"temperature": 0.0}, "temperature"),
    ):
        with pytest.raises(ValueError, match=word):
            model.sample(*arguments, **settings)


BAD = {
    "label": ("sample --workdir={trained} --labels=11 --out={new}.png", "0 to 9"),
    "no model": ("sample --workdir={new} --labels=1 --out={new}.png", "quickstart"),
    "not a picture": ("sample --workdir={trained} --labels=1 --out={new}.bmp", ".png"),
    "unknown flag": ("sample --workdir={trained} --labels=1 --out={new}.png --seeed=1", "seeed"),
    "preset": ("train --config=digits.py:huge --workdir={new}", "runlocal"),
    "depth": ("train --config=mvar_imagenet256.py:d13 --workdir={new}", "d16"),
    "no file": ("train --config=nothing.py --workdir={new}", "digits.py"),
    "override": ("train --config=digits.py --config.model.depht=2 --workdir={new}", "depth"),
    "value": ("train --config=digits.py --config.model.depth=two --workdir={new}", "two"),
    "heads": ("train --config=digits.py --config.model.heads=3 --workdir={new}", "divisible"),
    "image": (
        "train_tokenizer --config=digits.py --config.tokenizer.image_size=(64,64) --workdir={new}",
        "last scale",
    ),
    "no tokenizer": ("train --config=digits.py --workdir={new}", "train_tokenizer"),
    "no data": (
        "train_tokenizer --config=digits.py --config.data.train_split=train[:0] --workdir={new}",
        "empty",
    ),
    "seed": ("sample --workdir={trained} --labels=1 --out={new}.png --seed=9876543210", "seed"),
    "no folder": ("sample --workdir={trained} --labels=1 --out={new}/a.png", "no directory"),
    "other place": ("train --config=/elsewhere/digits.py --workdir={new}", "/elsewhere/digits.py"),
    "empty name": ("train --config=digits.py --workdir=", "empty name"),
    "no history": (
        "sample --workdir={trained} --labels=1 --out={new}.png --policy=hack --ratio=0.5",
        "do not attend over the history",
    ),
    "ratio alone": (
        "sample --workdir={trained} --labels=1 --out={new}.png --ratio=0.5",
        "--policy",
    ),
    "no profile": (
        "sample --workdir={trained} --labels=1 --out={new}.png --policy=hack --profile={new}.json",
        "no such profile",
    ),
    "calibrate": ("calibrate --workdir={trained} --out={new}.json", "no cache to compress"),
    "compare": ("compare_policies --workdir={trained} --out={new}", "no cache to compress"),
    "policies": ("compare_policies --workdir={trained} --policies=fifo --out={new}", "snapkv"),
    "block heads": ("benchmark_training --heads=3", "divisible by heads 3"),
    "inner width": ("benchmark_training --width=48", "ssm.head_dim"),
    "long ratio": ("benchmark_policies --ratio=1", "below 1"),
    "ratios": ("compare_policies --workdir={trained} --ratios=half --out={new}", "0.5,0.7"),
    "mesh": (
        "train --config=digits.py:runlocal --config.mesh.fsdp=3 --workdir={new}",
        "data=-1 x fsdp=3 x tensor=1 does not make",
    ),
    "address": (
        "train --config=digits.py:runlocal --coordinator=host:1 --workdir={new}",
        "expected all three",
    ),
    "other run": (
        "train --config=digits.py:runlocal --config.model.width=64 --workdir={trained}",
        "config.model.width",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence(run, trained, tmp_path, case):
    command, word = BAD[case]
    new = tmp_path / "new"
    program, *arguments = command.format(trained=trained, new=new).split()
    before = snapshot(trained)
    result = run(program, *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())
    assert snapshot(trained) == before


def truncate(checkpoint):
    files = [path for path in (checkpoint / "average").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-100])


def test_a_truncated_checkpoint_is_named_and_skipped(run, trained, tmp_path):
    workdir, out = tmp_path / "damaged", tmp_path / "out.png"
    shutil.copytree(trained, workdir)
    newest = workdir / "checkpoints" / "60"
    truncate(newest)
    before = snapshot(workdir)
    result = run("sample", f"--workdir={workdir}", "--labels=1", f"--out={out}")
    assert result.returncode == 0 and out.is_file(), result.stderr
    assert f"{newest} is damaged (average/" in result.stderr
    assert snapshot(workdir) == before
    result = run("train", "--config=digits.py:runlocal", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert "resuming from 50; it is kept as 60.damaged" in result.stderr
    assert (workdir / "metrics.jsonl").read_bytes() == (trained / "metrics.jsonl").read_bytes()


def test_truncated_checkpoints_are_all_named_and_not_changed(run, trained, tmp_path):
    workdir = tmp_path / "damaged"
    shutil.copytree(trained, workdir)
    for step in ("50", "60"):
        truncate(workdir / "checkpoints" / step)
    before = snapshot(workdir)
    out = tmp_path / "out.png"
    for command in (
        ("sample", f"--workdir={workdir}", "--labels=1", f"--out={out}"),
        ("train", "--config=digits.py:runlocal", f"--workdir={workdir}"),
    ):
        result = run(*command)
        assert result.returncode == 2, result.stderr
        assert "all checkpoints are damaged: 60 (" in result.stderr and ", 50 (" in result.stderr
        assert "Traceback" not in result.stderr
    assert snapshot(workdir) == before


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
