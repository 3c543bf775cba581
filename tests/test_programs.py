"""The programs as a user runs them: from nothing to samples, again, and with bad input."""

import inspect
import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import mvar_jax
from mvar_jax.checks import check_seed
from mvar_jax.config.files import load_config
from mvar_jax.config.tree import from_config_dict
from mvar_jax.experiment.starting_weights import inherit_trunk
from mvar_jax.experiment.tokenizer_training import train_tokenizer
from mvar_jax.experiment.trunk_training import train_trunk
from mvar_jax.models.checksum import tokenizer_names
from mvar_jax.pictures.image_grid import growth_grid
from mvar_jax.training import weights
from mvar_jax.training.lock import NAME, RunLock
from mvar_jax.workdir import RunRecord, Workdir

# What asks for as many images shares a compiled program.
TWO = ("--labels=3,7", "--columns=1")


def copy_run(source, target):
    """Copies a run; for a moment another test may hold its lock."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(NAME))


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
    assert rows[-1]["step"] == 40
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert "validation_loss" in rows[-1]


def test_running_again_trains_nothing(run, trained, tmp_path):
    workdir = tmp_path / "again"
    copy_run(trained, workdir)
    result = run("train", "--config=digits.py:runlocal", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert "nothing to do" in result.stderr
    assert (workdir / "metrics.jsonl").read_bytes() == (trained / "metrics.jsonl").read_bytes()


def test_growing_draws_a_row_per_image_that_ends_as_the_sample(run, trained, model, tmp_path):
    out = tmp_path / "grown.png"
    arguments = (f"--workdir={trained}", *TWO, "--seed=5", f"--out={out}")
    result = run("sample", "--grow", *arguments)
    assert result.returncode == 0, result.stderr
    expected = growth_grid(model.grow([3, 7], seed=5), ["3", "7"], scale=2)
    with Image.open(out) as picture:
        np.testing.assert_allclose(np.asarray(picture, int), np.asarray(expected, int), atol=1)


def test_any_class_is_listed_and_drawn_into_files_of_their_own(run, trained, tmp_path):
    result = run("sample", f"--workdir={trained}", "--classes")
    assert result.stdout.splitlines() == [f"{index}\t{index}" for index in range(10)]
    folder = tmp_path / "new" / "images"
    arguments = ("--labels=all", "--columns=2", "--numbers=4-6,19", "--scale=3", "--batch_size=2")
    out = f"--out={folder}/"
    result = run("sample", f"--workdir={trained}", *arguments, "--preset=picture", out)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("top_k is 128, the whole vocabulary, in place of 900") == 1
    names = [f"seed0_{number:05d}_{number // 2}.png" for number in (4, 5, 6, 19)]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert all(Image.open(folder / name).size == (96, 96) for name in names)


def test_arrays_are_those_of_the_sample(run, trained, model, tmp_path):
    arguments = (*TWO, "--seed=2", f"--out={tmp_path / 'a.npz'}")
    result = run("sample", f"--workdir={trained}", *arguments)
    assert result.returncode == 0, result.stderr
    expected = model.sample([3, 7], seed=2)
    with np.load(tmp_path / "a.npz") as arrays:
        difference = arrays["images"].astype(int) - mvar_jax.to_uint8(expected.images)
        assert np.abs(difference).max() <= 1
        np.testing.assert_array_equal(arrays["tokens"], np.concatenate(expected.tokens, axis=1))
        assert arrays["seed"] == 2 and arrays["labels"].tolist() == [3, 7]


def test_a_model_drafts_for_itself(run, trained, model, tmp_path):
    draft = (f"--draft={trained}", "--draft_scales=2")
    arguments = (*TWO, "--seed=2", f"--out={tmp_path / 'a.npz'}")
    result = run("sample", f"--workdir={trained}", *draft, *arguments)
    assert result.returncode == 0, result.stderr
    expected = model.sample([3, 7], seed=2)
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["tokens"], np.concatenate(expected.tokens, axis=1))


def save_halves(folder, size, mask_size):
    """An image of (width, height), and a mask whose right half is white."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(folder / "in.png")
    mask = Image.new("L", mask_size)
    mask.paste(255, (mask_size[0] // 2, 0, *mask_size))
    mask.save(folder / "mask.png")
    return pixels, (f"--image={folder / 'in.png'}", f"--mask={folder / 'mask.png'}")


def test_an_edit_keeps_what_is_black(run, trained, model, tmp_path):
    pixels, files = save_halves(tmp_path, (32, 32), (32, 32))
    arguments = (f"--workdir={trained}", *files, "--label=7", "--feather=1", "--seed=3")
    result = run("edit", *arguments, f"--out={tmp_path / 'out.png'}")
    assert result.returncode == 0 and not result.stderr, result.stderr
    mask = np.where(np.arange(32) < 16, 0, np.ones((1, 32, 32)))
    images = pixels[None] / np.float32(127.5) - 1
    expected = mvar_jax.to_uint8(model.edit(images, mask, "7", seed=3, feather=1).images)[0]
    with Image.open(tmp_path / "out.png") as picture:
        edited = np.asarray(picture)
    np.testing.assert_array_equal(edited[:, :16], pixels[:, :16])
    assert np.abs(edited.astype(int) - expected).max() <= 2
    assert np.mean(edited[:, 16:] != pixels[:, 16:]) > 0.9


def test_an_edit_of_another_size_says_so_and_draws_with_the_noise_of_the_image(
    run, trained, tmp_path
):
    pixels, files = save_halves(tmp_path, (50, 40), (25, 20))
    arguments = (f"--workdir={trained}", *files, "--source_label=3", "--strength=0.8")
    result = run("edit", *arguments, f"--out={tmp_path / 'out.png'}")
    assert result.returncode == 0 and not result.stderr, result.stderr
    for sentence in (
        "mask.png: 25 x 20 pixels, resized to the 50 x 40 of",
        "50 x 40 pixels: it is edited at 32 x 32, its proportions changed, and",
        "No label or prompt: it is drawn without a condition.",
    ):
        assert sentence in result.stdout
    with Image.open(tmp_path / "out.png") as picture:
        edited = np.asarray(picture)
    np.testing.assert_array_equal(edited[:, :24], pixels[:, :24])
    assert np.mean(edited[:, 30:] != pixels[:, 30:]) > 0.9


def test_weights_without_names_have_those_of_imagenet_if_they_are_as_many(
    trained, tmp_path, monkeypatch
):
    workdir = tmp_path / "imported"
    copy_run(trained, workdir)
    for count, expected in ((10, "class 9"), (9, "9")):
        names = tuple(f"class {index}" for index in range(count))
        monkeypatch.setattr(weights, "imagenet_names", lambda names=names: names)
        assert mvar_jax.load(workdir).class_names[9] == "9"
        (workdir / "classes.json").rename(tmp_path / "classes.json")
        assert mvar_jax.load(workdir).class_names[9] == expected
        (tmp_path / "classes.json").rename(workdir / "classes.json")


def test_fine_tuning_starts_from_other_weights(run, trained, tmp_path):
    workdir = tmp_path / "tuned"
    arguments = ("--config=digits.py:runlocal", "--config.training.steps=2", f"--init={trained}")
    result = run("train", *arguments, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    first = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[0])
    begun = json.loads((trained / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] < 0.8 * begun["loss"]
    assert mvar_jax.load(workdir).sample([1]).images.shape == (1, 32, 32, 3)


@pytest.mark.slow
def test_a_trunk_on_an_untrained_tokenizer_can_be_sampled(run, tmp_path):
    workdir = tmp_path / "smoke"
    arguments = ("--config=digits.py:runlocal", "--config.training.steps=1")
    result = run("train", *arguments, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert mvar_jax.load(workdir).sample([1]).images.shape == (1, 32, 32, 3)


def test_fine_tuning_keeps_the_embeddings_of_classes_with_the_same_name(trained, model):
    config = replace(model.config, model=replace(model.config.model, num_classes=3))
    params = inherit_trunk(config, Workdir.of(trained), ("7", "dog", "0"))
    embedding, old = params.pop("class_embedding"), model.weights.trunk
    assert embedding.shape == (4, config.model.width)
    for row, before in ((0, 7), (2, 0), (-1, -1)):
        np.testing.assert_array_equal(embedding[row], old["class_embedding"][before])
    assert np.all(embedding[1] != old["class_embedding"][1])
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


def test_imported_weights_keep_the_embeddings_of_as_many_classes(trained, model, tmp_path):
    unnamed = tmp_path / "unnamed"
    copy_run(trained, unnamed)
    (unnamed / "classes.json").unlink()
    names = tuple(f"digit {i}" for i in range(10))
    params = inherit_trunk(model.config, Workdir.of(unnamed), names)
    jax.tree.map(np.testing.assert_array_equal, params, dict(model.weights.trunk))


def test_a_string_or_a_number_is_one_label(model):
    assert model.sample("3").images.shape == model.sample(3).images.shape == (1, 32, 32, 3)
    one, other = model.sample("3", numbers=5), model.sample(3, numbers=[5])
    np.testing.assert_array_equal(one.images, other.images)
    with pytest.raises(ValueError, match="got '37', expected class indices from 0 to 9"):
        model.sample("37")


@pytest.mark.parametrize("value", [1.5, None, "3", -1, 2**32, True])
def test_what_is_no_seed_is_named(value):
    with pytest.raises(ValueError, match=f"seed: got {value!r}, expected a whole number from 0 to"):
        inspect.unwrap(check_seed)(value)  # without the tests' own check of types


def test_a_model_is_shown_in_a_line(model):
    assert repr(model).startswith("Model(") and len(repr(model)) < 120


def test_api_refuses_what_it_does_not_know(model):
    for arguments, settings, word in (
        (([1], -1), {}, "seed: got -1, expected a whole number"),
        (([1],), {"batch_size": 0}, "batch_size: got 0"),
        (([1],), {"numbers": [-2]}, "numbers: got -2"),
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


@pytest.fixture
def other_tokenizer(trained, tmp_path):
    """A run whose tokenizer is not the one that its trunk was trained on."""
    workdir = Workdir.of(tmp_path / "run")
    copy_run(trained, workdir.path)
    record = workdir.record()
    assert record.total_steps == 40 and len(record.tokenizer) == 64
    workdir.save_record(replace(record, tokenizer="0" * 64))
    return workdir


def test_a_trunk_takes_no_other_tokenizer(run, trained, other_tokenizer, tmp_path):
    path = other_tokenizer.path
    before = snapshot(path)
    sentence = f"holds other weights of a tokenizer than {path} learned the tokens of"
    with pytest.raises(ValueError, match=f"{path}/tokenizer: {sentence}"):
        mvar_jax.load(path)
    with pytest.raises(ValueError, match=f"{trained}/tokenizer: {sentence}"):
        mvar_jax.load(path, trained)
    config = ("--config=digits.py:runlocal", "--config.training.steps=50")
    for command in (
        ("train", *config, f"--workdir={path}"),
        ("train", *config, f"--workdir={tmp_path / 'new'}", f"--init={path}"),
        ("convert", "export", f"--workdir={path}", f"--out={tmp_path / 'new.safetensors'}"),
    ):
        result = run(*command)
        assert result.returncode == 2 and sentence in result.stderr, result.stderr
    assert snapshot(path) == before and not (tmp_path / "new").exists()


def test_a_trunk_takes_its_tokenizer_with_a_decoder_trained_further(run, trained, tmp_path):
    """And the name that earlier versions gave to a tokenizer, of all its parameters."""
    tuned = tmp_path / "tuned"
    arguments = ("--config=digits.py:runlocal", "--config.tokenizer_training.steps=2")
    arguments += (f"--init={trained}", "--config.tokenizer_frozen=tokens")
    result = run("train_tokenizer", *arguments, f"--workdir={tuned}")
    assert result.returncode == 0, result.stderr
    before, after = mvar_jax.load(trained), mvar_jax.load(trained, tuned)
    one, other = (model.sample([3, 7], seed=0) for model in (before, after))
    for ours, theirs in zip(one.tokens, other.tokens):
        np.testing.assert_array_equal(ours, theirs)
    assert np.abs(one.images - other.images).max() > 0
    earlier = Workdir.of(tmp_path / "earlier")
    copy_run(trained, earlier.path)
    name = tokenizer_names(before.weights.tokenizer)[1]
    earlier.save_record(replace(earlier.record(), tokenizer=name))
    assert mvar_jax.load(earlier.path)
    with pytest.raises(ValueError, match="holds other weights of a tokenizer than"):
        mvar_jax.load(earlier.path, tuned)
    new = ("--config.codebook.start_batches=1", f"--workdir={tmp_path / 'new'}")
    result = run("train_tokenizer", *arguments, *new)
    assert result.returncode == 2 and "start_batches: got 1 with --init" in result.stderr
    random = (argument for argument in arguments if not argument.startswith("--init"))
    result = run("train_tokenizer", *random, f"--workdir={tmp_path / 'new'}")
    assert result.returncode == 2 and "got 'tokens' without --init, expected" in result.stderr
    result = run("train_tokenizer", *arguments[:2], arguments[3], f"--workdir={tuned}")
    assert result.returncode == 0, result.stderr  # resumed, it needs no other run


def test_a_tokenizer_that_a_trunk_was_trained_on_is_not_changed(run, trained, tmp_path):
    workdir = tmp_path / "run"
    copy_run(trained, workdir)
    before = snapshot(workdir)
    steps = "--config.tokenizer_training.steps=999"
    result = run("train_tokenizer", "--config=digits.py:runlocal", steps, f"--workdir={workdir}")
    assert result.returncode == 2 and "holds a trunk that was trained on this" in result.stderr
    assert snapshot(workdir) == before


@pytest.fixture
def config(digits_directory):
    """What `trained` was trained by."""
    config = from_config_dict(load_config("digits.py:runlocal"))
    return replace(config, data=replace(config.data, directory=digits_directory))


def test_a_tokenizer_is_not_changed_while_a_trunk_learns_its_tokens(config, trained, tmp_path):
    workdir = Workdir.of(tmp_path / "run")
    shutil.copytree(trained / "tokenizer", workdir.tokenizer.path)
    longer = replace(config.tokenizer_training, steps=999)
    with RunLock(workdir.path):
        before = snapshot(workdir.path)
        with pytest.raises(ValueError, match="run: another run writes here"):
            train_tokenizer(replace(config, tokenizer_training=longer), workdir, force=True)
        assert snapshot(workdir.path) == before


def test_a_start_from_a_run_that_is_not_there_is_refused_unless_it_goes_on(
    config, trained, tmp_path, caplog
):
    nothing, new = Workdir.of(tmp_path / "nothing"), Workdir.of(tmp_path / "new")
    for flag, name in (("--init", "init"), ("--tokenizer", "tokenizer_from")):
        with pytest.raises(ValueError, match=f"{flag}: got {nothing.path}, where there is no fol"):
            train_trunk(config, new, **{name: nothing})
        with caplog.at_level("WARNING"):
            train_trunk(config, Workdir.of(trained), **{name: nothing})  # which is at its end
        assert f"is trained, so that {flag} is not looked at" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_that_stopped_early_is_refused(run, trained, tmp_path):
    workdir = Workdir.of(tmp_path / "run")
    shutil.copytree(trained / "tokenizer", workdir.tokenizer.path)
    workdir.tokenizer.save_record(RunRecord(10_000))
    before = snapshot(workdir.path)
    settings = ("--config=digits.py:runlocal", "--config.allow_untrained_tokenizer=False")
    for program in (("train",), ("tokenize", f"--out={tmp_path / 'tokens'}")):
        result = run(*program, *settings, f"--workdir={workdir.path}")
        assert result.returncode == 2, result.stderr
        assert "of 10000; finish it by the command that began it" in result.stderr
    assert snapshot(workdir.path) == before and not (tmp_path / "tokens").exists()


def test_renamed_classes_are_refused(run, trained, tmp_path):
    workdir = Workdir.of(tmp_path / "run")
    copy_run(trained, workdir.path)
    workdir.save_class_names(("1", "0", *"23456789"))
    before = snapshot(workdir.path)
    result = run("train", "--config=digits.py:runlocal", f"--workdir={workdir.path}")
    assert result.returncode == 2 and "was trained with '1' as class 0" in result.stderr
    assert snapshot(workdir.path) == before


def test_a_start_that_trains_nothing_changes_nothing(run, trained, tmp_path):
    workdir = tmp_path / "again"
    copy_run(trained, workdir)
    before = snapshot(workdir)
    settings = ("--config=digits.py:runlocal", "--config.training.steps=10")
    result = run("train", *settings, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert snapshot(workdir) == before


@pytest.mark.parametrize("program", ["sample", "train", "calibrate", "convert import"])
def test_help_names_every_flag(run, program):
    result = run(*program.split(), "--help")
    assert result.returncode == 0 and not result.stderr
    expected = {
        "sample": ("--labels: ", "--policy: ", "--compilation_cache: "),
        "train": ("--config: ", "--distributed: ", "--workdir: ", "--init: ", "--base: "),
        "calibrate": ("--samples: Images to average over. (default: 50)", "--verify: "),
        "convert import": ("--checkpoint: ", "--schedule: ", "--out: "),
    }
    assert all(f"\n  {text}" in result.stdout for text in expected[program])


def test_help_of_programs_with_commands_and_of_the_package(run):
    result = run("convert", "--help")
    assert result.returncode == 0
    assert "convert import" in result.stdout and "convert export" in result.stdout
    result = run("__main__")
    assert result.returncode == 0 and "python -m mvar_jax.compare_policies" in result.stdout
    assert run("__main__", "--version").stdout == f"mvar_jax {mvar_jax.__version__}\n"


@pytest.mark.parametrize(
    ("variable", "name"), [("JAX_PLATFORMS", "cuda"), ("JAX_PLATFORM_NAME", "gpu")]
)
def test_a_platform_that_is_not_there_is_named(run, trained, tmp_path, monkeypatch, variable, name):
    monkeypatch.delitem(run.environment, "JAX_PLATFORMS", raising=False)
    monkeypatch.setitem(run.environment, variable, name)
    result = run("sample", f"--workdir={trained}", "--labels=1", f"--out={tmp_path / 'a.png'}")
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith(f"error: {variable}: got '{name}', of which JAX finds")


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
    "discriminator": (
        "train_tokenizer --config=digits.py --config.tokenizer_loss.adversarial=0.5 "
        "--config.tokenizer_loss.adversarial_start=1.0 --workdir={new}",
        "end beyond the run",
    ),
    "lpips": (
        "train_tokenizer --config=digits.py --classifier=alex.pth --workdir={new}",
        "expected --classifier",
    ),
    "no tokenizer": ("train --config=digits.py --workdir={new}", "train_tokenizer"),
    "no data": (
        "train_tokenizer --config=digits.py --config.data.train_split=train[:0] --workdir={new}",
        "empty",
    ),
    "seed": ("sample --workdir={trained} --labels=1 --out={new}.png --seed=9876543210", "seed"),
    "no folder": ("sample --workdir={trained} --labels=1 --out={new}/a.png", "no directory"),
    "list and labels": ("sample --workdir={trained} --classes --labels=1", "--classes alone"),
    "nothing asked for": ("sample --workdir={trained} --labels=1", "expected --labels and --out"),
    "numbers": (
        "sample --workdir={trained} --labels=1 --numbers=3,8 --out={new}.png",
        "--numbers: got '3,8', expected numbers from 0 to 7",
    ),
    "growing arrays": ("sample --workdir={trained} --labels=1 --grow --out={new}.npz", "--grow"),
    "long name": (
        "sample --workdir={trained} --labels=1 --out={new}" + 240 * "x" + ".png",
        "File name too long",
    ),
    "no base": ("train --config=digits.py --config.adapter.rank=2 --workdir={new}", "by --base"),
    "rank": ("train --config=digits.py --config.adapter.rank=-1 --workdir={new}", "adapter.rank"),
    "adapter twice": (
        "sample --workdir={trained} --labels=1 --out={new}.png --adapter=one --adapter=one:0.5",
        "--adapter: got one twice, expected it once; give its weight, as one:2.",
    ),
    "no adapter": (
        "sample --workdir={trained} --labels=1 --out={new}.png --adapter={trained}:0.5",
        "holds a whole model, expected an adapter",
    ),
    "draft alone": (
        "sample --workdir={trained} --labels=1 --out={new}.png --draft={trained}",
        "expected --draft, a model, and --draft_scales",
    ),
    "no draft": (
        "sample --workdir={trained} --labels=1 --out={new}.png --draft={new} --draft_scales=1",
        "holds no config.json",
    ),
    "drafted scales": (
        "sample --workdir={trained} --labels=1 --out={new}.png --draft={trained} --draft_scales=5",
        "draft: scales: got 5, expected a whole number from 0 to 4",
    ),
    "edit of nothing": (
        "edit --workdir={trained} --image={trained}/samples.png --strength=1 --out={new}.png",
        "--strength: got 1 without --mask or --source_label, expected one of them or less",
    ),
    "no image to edit": (
        "edit --workdir={trained} --image={new}.png --strength=0.5 --out={new}.png",
        "No such file",
    ),
    "broken mask": (
        "edit --workdir={trained} --image={trained}/samples.png --mask={trained}/config.json "
        "--out={new}.png",
        "config.json: cannot be read (no image in one of the formats",
    ),
    "unknown class of an edit": (
        "edit --workdir={trained} --image={trained}/samples.png --strength=0.5 --label=fox "
        "--out={new}.png",
        "labels: got 'fox', expected class indices from 0 to 9",
    ),
    "text of an edit": (
        "edit --workdir={trained} --image={trained}/samples.png --strength=0.5 --prompt=fox "
        "--out={new}.png",
        "--prompt: the model draws classes; give --label",
    ),
    "edit over the image": (
        "edit --workdir={trained} --image={trained}/samples.png --strength=0.5 "
        "--out={trained}/samples.png",
        "is the image or the mask itself",
    ),
    "strength": (
        "edit --workdir={trained} --image={trained}/samples.png --strength=2 --out={new}.png",
        "strength",
    ),
    "export": ("convert export --workdir={trained} --out={new}/a.pth", "no directory"),
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
    "block heads": (
        "benchmark blocks --config=mvar_imagenet256.py:d16 --config.model.heads=3",
        "divisible by heads 3",
    ),
    "no blocks": ("benchmark blocks --config=var_imagenet256.py:d16", "one of an M-VAR"),
    "long ratio": ("benchmark policies --config=digits.py --ratio=1", "below 1"),
    "no cache": ("benchmark policies --config=digits.py", "caches nothing"),
    "no images at once": ("benchmark sample --config=digits.py --batch=0", "--batch"),
    "huge batch": ("benchmark sample --config=digits.py:runlocal --batch=1048576", "fewer images"),
    "no checkout": (
        "benchmark sample --config=var_imagenet256.py:d16 --config.model.depth=1 "
        "--config.model.width=64 --config.model.heads=1 --config.tokenizer.base_channels=32 "
        "--reference={new}",
        "no models/__init__.py",
    ),
    "no official code": (
        "benchmark train --config=digits.py:runlocal --reference={new}",
        "no official file can hold",
    ),
    "no folder for rows": ("benchmark train --config=digits.py --json={new}/rows.json", "--json"),
    "no images": ("cache_sizes --images=0", "whole numbers from 1"),
    "ratios": ("compare_policies --workdir={trained} --ratios=half --out={new}", "0.5,0.7"),
    "share": (
        "convert export --for=sampling --workdir={trained} --out={trained}",
        "is there already",
    ),
    "check, folder": ("check_data --config=folder.py:runlocal --out={new}", "data.directory"),
    "check, split": (
        "check_data --config=digits.py --config.data.validation_split=dev --out={new}",
        "no split 'dev'",
    ),
    "check, out": ("check_data --config=digits.py --out={trained}/report.json", "is a file"),
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
    copy_run(trained, workdir)
    newest = workdir / "checkpoints" / "40"
    truncate(newest)
    before = snapshot(workdir)
    result = run("sample", f"--workdir={workdir}", *TWO, f"--out={out}")
    assert result.returncode == 0 and out.is_file(), result.stderr
    assert f"{newest} is damaged (average/" in result.stderr
    assert snapshot(workdir) == before


@pytest.mark.slow
def test_training_goes_on_from_the_checkpoint_before_a_truncated_one(run, trained, tmp_path):
    workdir = tmp_path / "damaged"
    copy_run(trained, workdir)
    truncate(workdir / "checkpoints" / "40")
    result = run("train", "--config=digits.py:runlocal", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert "resuming from 30; it is kept as 40.damaged" in result.stderr
    assert (workdir / "metrics.jsonl").read_bytes() == (trained / "metrics.jsonl").read_bytes()


def test_checkpoints_without_seals_are_named_and_refused_if_asked(run, trained, tmp_path):
    workdir, out = tmp_path / "unsealed", tmp_path / "out.png"
    copy_run(trained, workdir)
    newest = [workdir / "checkpoints" / "40", workdir / "tokenizer" / "checkpoints" / "40"]
    for checkpoint in newest:
        (checkpoint / "seal.json").unlink()
    sample = ("sample", f"--workdir={workdir}", *TWO, f"--out={out}")
    for command in (
        (*sample, "--verify"),
        ("convert", "export", "--verify", "--for=sampling", f"--workdir={workdir}", f"--out={out}"),
    ):
        result = run(*command)
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
        assert f"{newest[0]}: holds no seal.json, expected one" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["unsealed"]
    result = run(*sample)
    assert result.returncode == 0 and out.is_file(), result.stderr
    for checkpoint in newest:
        said = f"{checkpoint} holds no seal.json: its files were loaded unverified."
        assert result.stderr.count(said) == 1


def test_truncated_checkpoints_are_all_named_and_not_changed(run, trained, tmp_path):
    workdir = tmp_path / "damaged"
    copy_run(trained, workdir)
    for step in ("30", "40"):
        truncate(workdir / "checkpoints" / step)
    before = snapshot(workdir)
    out = tmp_path / "out.png"
    for command in (
        ("sample", f"--workdir={workdir}", *TWO, f"--out={out}"),
        ("train", "--config=digits.py:runlocal", f"--workdir={workdir}"),
    ):
        result = run(*command)
        assert result.returncode == 2, result.stderr
        assert "all checkpoints are damaged: 40 (" in result.stderr and ", 30 (" in result.stderr
        assert "Traceback" not in result.stderr
    assert snapshot(workdir) == before


def test_a_model_is_shared_without_its_training(run, trained, tmp_path):
    shared, pictures = tmp_path / "shared", [tmp_path / "a.png", tmp_path / "b.png"]
    result = run("convert", "export", "--for=sampling", f"--workdir={trained}", f"--out={shared}")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{shared}: a model to sample from, its tokenizer included.\n"
    for workdir, out in zip((trained, shared), pictures):
        result = run("sample", f"--workdir={workdir}", *TWO, f"--out={out}")
        assert result.returncode == 0 and not result.stderr, result.stderr
    assert pictures[0].read_bytes() == pictures[1].read_bytes()  # of two processes
    result = run("train", "--config=digits.py:runlocal", f"--workdir={shared}")
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    assert "holds parameters alone (no optimizer, no data position)" in result.stderr


def test_a_dataset_is_checked_without_training(run, tmp_path):
    result = run("check_data", "--config=digits.py", f"--out={tmp_path / 'check'}")
    assert result.returncode == 0, result.stderr
    assert "train: 1254 images of 10 classes, 0 more cannot be read" in result.stdout
    assert "validation: 179 images of 10 classes" in result.stdout
    assert "0 will be refused, of another size than 32x32" in result.stdout
    assert "check train: image 1254/1254 (00:00 left)" in result.stderr
    pictures = {path.name for path in (tmp_path / "check").iterdir()}
    assert pictures == {"contact_sheet.png", "batch.png"}
    assert all(Image.open(tmp_path / "check" / name).size[0] > 400 for name in pictures)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
