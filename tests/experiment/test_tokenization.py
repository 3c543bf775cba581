"""Token files: whole, the same however they came about, and as good to train on as the images."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.config import DataConfig
from mvar_jax.data.pipeline import normalize
from mvar_jax.data.source import load_source
from mvar_jax.data.token_manifest import MANIFEST
from mvar_jax.data.token_source import TokenSource
from mvar_jax.experiment import tokenization, tokenizer_training, trunk_training
from mvar_jax.experiment.tokenization import tokenize_split
from mvar_jax.experiment.tokenizer_training import train_tokenizer
from mvar_jax.experiment.trunk_training import train_trunk
from mvar_jax.files import names_below, publish
from mvar_jax.models.checksum import tokenizer_names
from mvar_jax.training.loop import Outcome
from mvar_jax.training.parameters import save_params
from mvar_jax.workdir import Workdir
from tests.data.builders import encode
from tests.training.tiny import CONFIG, TOKENIZER, tokenizer_params

IMAGES = 21


def leaves(params):
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        yield tuple(key.key for key in path), np.asarray(leaf)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Images of 8x8 pixels of three classes; one of the training images is broken."""
    folder, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for index in range(IMAGES):
        for split in ("train", "validation"):
            file = folder / split / ("cat", "dog", "fox")[index % 3] / f"{index:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode(generator.integers(0, 256, (8, 8, 3), np.uint8)))
    (folder / "train" / "cat" / "006.png").write_bytes(b"nonsense")
    return folder


@pytest.fixture(scope="module")
def config(photos):
    data = DataConfig(name="folder", directory=str(photos), augmentation="none", num_threads=2)
    return replace(CONFIG, data=data)


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    """A run that holds a tokenizer, but no trunk; do not write there."""
    return with_tokenizer(config, tmp_path_factory.mktemp("run"))


def with_tokenizer(config, folder):
    workdir = Workdir.of(folder)
    save_params(workdir.tokenizer.checkpoints, leaves(tokenizer_params()))
    workdir.tokenizer.save_config(config)
    return workdir


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(tokenization, "SHARD_IMAGES", 8)
    monkeypatch.setattr(tokenization, "ROWS", 3)


def contents(folder):
    return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def tokens_of(images):
    parameters = {"params": tokenizer_params()}
    features = TOKENIZER.apply(parameters, jnp.asarray(normalize(images)), method="encode")
    return np.asarray(TOKENIZER.apply(parameters, features, method="training_pair")[1])


def test_every_readable_image_has_its_tokens_in_the_order_of_the_split(config, workdir, tmp_path):
    manifest = tokenize_split(config, workdir, tmp_path / "out", split="train", crops=1)
    assert (manifest.examples, manifest.records) == (IMAGES, IMAGES - 1)
    images = load_source("folder", "train", config.data.directory)
    examples = [images.read(index) for index in range(IMAGES)]
    readable = [example for example in examples if example is not None]
    rows = list(TokenSource(str(tmp_path / "out")))
    expected = tokens_of(np.stack([example["image"] for example in readable]))
    np.testing.assert_array_equal([row["tokens"][0] for row in rows], expected)
    assert [row["label"] for row in rows] == [example["label"] for example in readable]


def test_the_manifest_names_what_the_tokens_are(config, workdir, photos, tmp_path):
    tokenize_split(config, workdir, tmp_path / "out", split="validation", crops=1)
    values = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert values["tokenizer_checksum"] == tokenizer_names(tokenizer_params())[0]
    assert values["tokenizer"]["vocabulary"] == 16
    assert values["tokenizer"]["scales"] == [[1, 1], [2, 2]]
    assert values["data"]["name"] == "folder" and values["data"]["directory"] == str(photos)
    assert values["split"] == "validation" and values["class_names"] == ["cat", "dog", "fox"]
    assert [shard["records"] for shard in values["shards"]] == [8, 8, 5]
    names = {shard["file"] for shard in values["shards"]}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {MANIFEST}


def test_interrupted_work_resumes_to_the_same_bytes(config, workdir, tmp_path, monkeypatch):
    tokenize_split(config, workdir, tmp_path / "whole", split="train", crops=1)
    whole, make = contents(tmp_path / "whole"), tokenization.make_encoder

    def ended(*arguments):
        size, encode = make(*arguments)
        calls = []

        def encode_some(pixels):
            calls.append(len(pixels))
            if len(calls) == 5:  # within the second shard
                raise KeyboardInterrupt
            return encode(pixels)

        return size, encode_some

    monkeypatch.setattr(tokenization, "make_encoder", ended)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        tokenize_split(config, workdir, out, split="train", crops=1)
    assert MANIFEST not in contents(out)
    first = out / "tokens-00000-of-00003.array_record"
    written = first.stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"manifest.json: found no such file"):
        TokenSource(str(out))
    monkeypatch.setattr(tokenization, "make_encoder", make)
    tokenize_split(config, workdir, out, split="train", crops=1)
    assert contents(out) == whole and first.stat().st_mtime_ns == written
    tokenize_split(config, workdir, out, split="train", crops=1)  # nothing is left to do
    assert contents(out) == whole


def test_the_result_does_not_depend_on_the_number_of_hosts(config, workdir, tmp_path, monkeypatch):
    tokenize_split(config, workdir, tmp_path / "one", split="train", crops=1)

    def as_host(index):
        monkeypatch.setattr(jax, "process_index", lambda: index)
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        monkeypatch.setattr(tokenization, "load_tokenizer", lambda *run: tokenizer_params())
        monkeypatch.setattr(tokenization, "on_first_process", lambda make: make() or "")
        tokenize_split(config, workdir, tmp_path / "two", split="train", crops=1)

    def stop(*arguments):
        raise InterruptedError

    with monkeypatch.context() as patched, pytest.raises(InterruptedError):
        patched.setattr(tokenization, "_conclude", stop)
        as_host(1)
    names = {path.name for path in (tmp_path / "two").iterdir()}
    assert names == {"plan.json", "tokens-00001-of-00003.array_record"}
    as_host(0)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_several_crops_are_drawn_from_the_seed_and_the_image(config, workdir, tmp_path):
    config = replace(config, data=replace(config.data, augmentation="shift", max_shift=2))
    out = [tmp_path / name for name in ("a", "b", "c")]
    tokenize_split(config, workdir, out[0], split="train", crops=4)
    tokenize_split(config, workdir, out[1], split="train", crops=4)
    tokenize_split(replace(config, seed=1), workdir, out[2], split="train", crops=4)
    assert contents(out[0]) == contents(out[1])
    rows = [np.stack([row["tokens"] for row in TokenSource(str(folder))]) for folder in out]
    assert rows[0].shape == (IMAGES - 1, 4, 5) and np.any(rows[0] != rows[2])
    assert max(len(np.unique(row, axis=0)) for row in rows[0]) > 1


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"split": "validation"}, "holds tokens made with split='train', got 'validation'"),
        ({"crops": 0}, "--crops: got 0, expected at least 1"),
        ({"crops": 2}, "got 2 with data.augmentation='none', expected 1"),
    ],
)
def test_other_tokens_are_not_written_over(config, workdir, tmp_path, changes, message):
    arguments = {"config": config, "workdir": workdir, "split": "train", "crops": 1}
    tokenize_split(out=tmp_path, **arguments)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=message):
        tokenize_split(out=tmp_path, **(arguments | changes))
    assert contents(tmp_path) == before


def test_a_run_without_a_tokenizer_is_refused(config, tmp_path):
    with pytest.raises(ValueError, match="holds no tokenizer"):
        tokenize_split(
            config, Workdir.of(tmp_path / "none"), tmp_path / "out", split="train", crops=1
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_training_on_tokens_is_training_on_images(config, tmp_path, monkeypatch):
    config = replace(config, data=replace(config.data, train_split="validation"))  # all are whole
    config = replace(config, model=replace(config.model, num_classes=0))
    workdirs = [with_tokenizer(config, tmp_path / name) for name in ("images", "tokens")]
    tokens = str(tmp_path / "out")
    tokenize_split(config, workdirs[0], Path(tokens), split="validation", crops=1)
    data = replace(config.data, tokens=tokens, validation_tokens=tokens, directory="/nowhere")
    histories = [
        train_trunk(config, workdirs[0]).history,
        train_trunk(replace(config, data=data), workdirs[1]).history,
    ]
    assert len(histories[0]) == CONFIG.training.steps
    for one, other in zip(*histories, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-7)
    assert "validation_loss" in histories[1][-1]


def given_to_fit(monkeypatch, train, *arguments):
    """The first batch to train on and to validate on that a training would read."""
    found = []

    def fit(run, programs, data, *, initial, begin):
        begin()
        found.extend(next(iter(batches)) for batches in (data.batches, data.validation))
        return Outcome(initial.create(), [], {})

    for module in (tokenizer_training, trunk_training):
        monkeypatch.setattr(module, "fit", fit)
    train(*arguments)
    return found


def test_tokens_take_the_place_of_images(config, workdir, tmp_path, monkeypatch):
    out = {split: tmp_path / split for split in ("train", "validation")}
    for split, folder in out.items():
        tokenize_split(config, workdir, folder, split=split, crops=1)
    data = replace(config.data, tokens=str(out["train"]), directory="/nowhere")
    data = replace(data, validation_tokens=str(out["validation"]))
    model = replace(config.model, num_classes=0)
    run = with_tokenizer(config, tmp_path / "run")
    given = given_to_fit(monkeypatch, train_trunk, replace(config, data=data, model=model), run)
    for batch in given:
        assert sorted(batch) == ["label", "tokens"] and batch["tokens"].shape == (4, 5)
    assert run.config().model.num_classes == 3  # found in the data
    assert run.class_names(3) == ("cat", "dog", "fox")


def test_validation_is_on_images_unless_it_is_on_tokens(config, workdir, tmp_path, monkeypatch):
    tokenize_split(config, workdir, tmp_path / "out", split="train", crops=1)
    config = replace(config, data=replace(config.data, tokens=str(tmp_path / "out")))
    run = with_tokenizer(config, tmp_path / "run")
    batch, held = given_to_fit(monkeypatch, train_trunk, config, run)
    assert sorted(batch) == ["label", "tokens"] and sorted(held) == ["image", "label"]


def test_validation_takes_the_memory_of_a_part(config, workdir, tmp_path, monkeypatch):
    training = replace(config.training, accumulate=2)
    config = replace(config, training=training, tokenizer_training=training)
    run = with_tokenizer(config, tmp_path / "run")
    for train, where in ((train_trunk, run), (train_tokenizer, Workdir.of(tmp_path / "new"))):
        given = given_to_fit(monkeypatch, train, config, where)
        assert [len(batch["image"]) for batch in given] == [4, 2]


def test_the_tokenizer_trains_on_images_whatever_the_trunk_trains_on(config, tmp_path, monkeypatch):
    data = replace(config.data, tokens="/nowhere", validation_tokens="/nowhere")
    workdir = Workdir.of(tmp_path)
    given = given_to_fit(monkeypatch, train_tokenizer, replace(config, data=data), workdir)
    assert [sorted(batch) for batch in given] == [["image", "label"]] * 2


def never(*arguments):
    raise AssertionError("it went on to compile")


@pytest.mark.parametrize("damage", ["scales", "checksum", "shard", "classes"])
def test_tokens_that_do_not_fit_are_refused_before_anything_is_compiled(
    config, workdir, tmp_path, monkeypatch, damage
):
    out = tmp_path / "out"
    manifest = tokenize_split(config, workdir, out, split="train", crops=1)
    changes = {
        "scales": {"tokenizer": replace(config.tokenizer, scales=((2, 1), (2, 2)))},
        "checksum": {"tokenizer_checksum": "0" * 64},
        "classes": {"class_names": ("cat", "dog", "fox", "owl")},
        "shard": {},
    }
    replace(manifest, **changes[damage]).save(out / MANIFEST)
    if damage == "shard":
        shard = out / manifest.shards[1].file
        shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    monkeypatch.setattr(jax, "jit", never)
    data = replace(config.data, tokens=str(out))
    with pytest.raises(ValueError, match=rf"{out}: .*damaged|{out}: its tokens|has 4 classes"):
        train_trunk(replace(config, data=data), workdir)


def test_both_splits_of_tokens_have_the_same_classes(config, workdir, tmp_path, monkeypatch):
    out = {split: tmp_path / split for split in ("train", "validation")}
    for split, folder in out.items():
        manifest = tokenize_split(config, workdir, folder, split=split, crops=1)
    replace(manifest, class_names=manifest.class_names[::-1]).save(out["validation"] / MANIFEST)
    monkeypatch.setattr(jax, "jit", never)
    data = replace(config.data, tokens=str(out["train"]), validation_tokens=str(out["validation"]))
    with pytest.raises(ValueError, match=r"validation: has other classes than .*another order"):
        train_trunk(replace(config, data=data), workdir)


def test_tokens_alone_leave_nothing_to_validate_on(config, workdir, tmp_path):
    tokenize_split(config, workdir, tmp_path / "out", split="train", crops=1)
    data = replace(config.data, tokens=str(tmp_path / "out"), directory="")
    with pytest.raises(ValueError, match=r"data.validation_tokens: got none, .*; set one of them"):
        train_trunk(replace(config, data=data), workdir)


def test_a_tokenizer_is_not_adopted_beside_one_that_was_begun(config, workdir, tmp_path):
    run = Workdir.of(tmp_path / "run")
    run.tokenizer.save_config(config)
    with pytest.raises(ValueError, match=r"already holds a tokenizer, trained or begun"):
        train_trunk(config, run, tokenizer_from=workdir)
    assert [path.name for path in run.path.iterdir()] == ["tokenizer"]


def test_images_tokenizer_and_tokens_may_be_in_a_bucket(config, workdir, photos, bucket, tmp_path):
    publish(Path(shutil.copytree(photos, tmp_path / "photos")), bucket / "photos")
    there = replace(config, data=replace(config.data, directory=f"{bucket}/photos"))
    stored = Workdir.of(f"{bucket}/run")
    stored.adopt_tokenizer(workdir)
    tokenize_split(config, workdir, tmp_path / "disk", split="train", crops=1)
    tokenize_split(there, stored, bucket / "tokens", split="train", crops=1)
    shards = names_below(tmp_path / "disk")
    assert names_below(bucket / "tokens") == shards
    for name in set(shards) - {MANIFEST}:
        assert (bucket / "tokens" / name).read_bytes() == (tmp_path / "disk" / name).read_bytes()
    source = TokenSource(f"{bucket}/tokens")
    source.check(config.tokenizer, tokenizer_names(tokenizer_params()))
    assert len(source) == IMAGES - 1
    again = tokenize_split(there, stored, bucket / "tokens", split="train", crops=1)
    assert again.records == IMAGES - 1
    (bucket / "tokens" / shards[-1]).unlink()
    with pytest.raises(ValueError, match="a shard is damaged"):
        TokenSource(f"{bucket}/tokens")
    with pytest.raises(ValueError, match="no prepared copy of 'digits' in the bucket"):
        load_source("digits", "train", f"{bucket}/photos")
