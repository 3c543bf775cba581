"""A run's directory: who may write there, and what is found again."""

import dataclasses
import inspect

import pytest

from mvar_jax.config import Config, InitConfig, ModelConfig, SamplingConfig, TrainingConfig
from mvar_jax.workdir import RunRecord, Workdir

CONFIG = Config(model=ModelConfig(depth=2), training=TrainingConfig(steps=10))


def contents(folder):
    """Every file below a folder, with its bytes."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def trained_tokenizer(path):
    """A working directory with something where the tokenizer's checkpoints belong."""
    workdir = Workdir.of(path)
    workdir.tokenizer.save_config(CONFIG)
    (workdir.tokenizer.checkpoints / "10").mkdir(parents=True)
    (workdir.tokenizer.checkpoints / "10" / "params").write_bytes(b"weights")
    return workdir


def trained_trunk(path, steps=10):
    """A working directory with something where a trunk's checkpoint of the last step belongs."""
    workdir = Workdir.of(path)
    workdir.save_config(CONFIG)
    (workdir.checkpoints / str(steps)).mkdir(parents=True)
    return workdir


def test_a_new_directory_takes_any_config(tmp_path):
    workdir = Workdir.of(tmp_path / "a" / "run")
    assert not workdir.is_trained
    workdir.save_config(CONFIG)
    assert workdir.config() == CONFIG
    assert [file.name for file in workdir.path.iterdir()] == ["config.json"]
    assert not workdir.is_trained
    (workdir.checkpoints / "10").mkdir(parents=True)
    assert workdir.is_trained


def test_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Workdir.of("run").path == tmp_path / "run"
    assert Workdir.of("~/run").path == tmp_path / "home" / "run"
    assert Workdir.of("run").tokenizer.checkpoints == tmp_path / "run" / "tokenizer" / "checkpoints"


@pytest.mark.parametrize("what", [None, 3, b"run", ""])
def test_what_is_no_path_is_refused(what):
    of = inspect.unwrap(Workdir.of.__func__)  # without the tests' own check of types
    with pytest.raises(ValueError, match=r"got .* for a working directory, expected a path"):
        of(Workdir, what)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training": TrainingConfig(steps=20, log_every=1)},
        {"tokenizer_training": TrainingConfig(epochs=1.0)},
        {"sampling": SamplingConfig(guidance=3.0)},
        {"allow_untrained_tokenizer": True},
    ],
    ids=str,
)
def test_how_long_to_train_and_how_to_sample_may_change(tmp_path, changes):
    workdir = trained_trunk(tmp_path)
    changed = dataclasses.replace(CONFIG, **changes)
    workdir.check_same(changed)
    workdir.save_config(changed)
    assert workdir.config() == changed


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": ModelConfig(depth=4)}, r"begun with config.model.depth=2, got 4"),
        (
            {"model": dataclasses.replace(CONFIG.model, init=InitConfig(gate=0.1))},
            r"begun with config.model.init.gate=1e-05, got 0.1",
        ),
        ({"seed": 1}, r"begun with config.seed=0, got 1"),
        ({"batch_size": 8}, r"begun with config.batch_size=768, got 8"),
    ],
)
def test_another_experiment_is_refused_and_nothing_written(tmp_path, changes, sentence):
    workdir = trained_trunk(tmp_path)
    before = contents(tmp_path)
    other = dataclasses.replace(CONFIG, training=TrainingConfig(steps=99), **changes)
    with pytest.raises(ValueError, match=f"{tmp_path}: was {sentence}; .* another --workdir"):
        workdir.check_same(other)
    assert contents(tmp_path) == before


def test_before_the_first_checkpoint_all_may_change(tmp_path):
    workdir = Workdir.of(tmp_path)
    workdir.save_config(CONFIG)
    workdir.save_class_names(("cat", "dog"))
    workdir.check_same(dataclasses.replace(CONFIG, batch_size=8))
    workdir.check_same_classes(("dog", "cat"))


def test_a_missing_or_broken_config_is_refused(tmp_path):
    workdir = Workdir.of(tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path}: holds no config.json, expected"):
        workdir.config()
    (trained_trunk(tmp_path).path / "config.json").write_text('{"modell": 1}')
    for attempt in (workdir.config, lambda: workdir.check_same(CONFIG)):
        with pytest.raises(ValueError, match=r"config.json: config: unknown key 'modell'"):
            attempt()
    assert (tmp_path / "config.json").read_text() == '{"modell": 1}'


@pytest.mark.parametrize(
    ("damaged", "what"),
    [(b"\xff\xfe{}", "can't decode byte 0xff"), (b"[" * 10**5, "nested too deep")],
)
def test_files_damaged_by_hand_are_named_with_the_remedy(tmp_path, damaged, what):
    workdir = Workdir.of(tmp_path)
    for name in ("config.json", "run.json", "classes.json"):
        (tmp_path / name).write_bytes(damaged)
    sentence = f"{tmp_path}/config.json: config: not valid JSON .*{what}.*, expected .* good copy"
    with pytest.raises(ValueError, match=sentence):
        workdir.config()
    with pytest.raises(ValueError, match=r"run.json: is not the file .*; put back a good copy"):
        workdir.record()
    with pytest.raises(ValueError, match=r"classes.json: expected a list .*put back a good copy"):
        workdir.class_names(3)


def test_class_names(tmp_path):
    workdir = Workdir.of(tmp_path)
    assert workdir.class_names(3) == ("0", "1", "2")
    workdir.save_class_names(("köttur", "hundur"))
    assert workdir.class_names(2) == ("köttur", "hundur")
    with pytest.raises(ValueError, match=r"classes.json: expected a list of 3 names"):
        workdir.class_names(3)


@pytest.mark.parametrize(
    ("names", "index", "old", "new"),
    [
        (("building", "cat", "flower"), 0, "cat", "building"),
        (("cat", "temple", "flower"), 1, "flower", "temple"),
    ],
)
def test_classes_of_other_names_or_order_are_refused(tmp_path, names, index, old, new):
    workdir = trained_trunk(tmp_path)
    workdir.check_same_classes(names)  # none were saved
    workdir.save_class_names(("cat", "flower", "temple"))
    workdir.check_same_classes(("cat", "flower", "temple"))
    with pytest.raises(
        ValueError, match=f"{tmp_path}: was trained with '{old}' as class {index}, .* '{new}'"
    ):
        workdir.check_same_classes(names)


def test_a_run_that_stopped_early_is_not_finished(tmp_path):
    workdir = trained_trunk(tmp_path, steps=300)
    workdir.check_finished()  # nothing says how far it was to train
    workdir.save_record(RunRecord(300))
    workdir.check_finished()
    workdir.save_record(RunRecord(1000, "a" * 64))
    assert workdir.record() == RunRecord(1000, "a" * 64)
    with pytest.raises(ValueError, match=f"{tmp_path}: its training stopped at step 300 of 1000"):
        workdir.check_finished()


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"steps": 3}', '{"total_steps": "3"}', '{"total_steps": 3, "x": 1}']
)
def test_a_broken_record_is_refused(tmp_path, text):
    workdir = Workdir.of(tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run.json: is not the file that was written"):
        workdir.record()


def test_the_first_other_setting_of_a_tokenizer_is_named(tmp_path):
    workdir = trained_tokenizer(tmp_path)
    workdir.check_tokenizer_settings(CONFIG)
    other = dataclasses.replace(CONFIG.tokenizer, base_channels=64, commitment=0.5)
    with pytest.raises(ValueError, match=r"tokenizer.base_channels=160, but the config has 64"):
        workdir.check_tokenizer_settings(dataclasses.replace(CONFIG, tokenizer=other))


def test_a_tokenizer_is_adopted_whole(tmp_path):
    other, workdir = trained_tokenizer(tmp_path / "other"), Workdir.of(tmp_path / "run")
    (tmp_path / "run" / "tokenizer.unfinished").mkdir(parents=True)  # an interrupted attempt
    (tmp_path / "run" / "tokenizer.unfinished" / "left").write_text("over")
    workdir.adopt_tokenizer(other)
    assert workdir.tokenizer.is_trained
    assert workdir.tokenizer.config() == CONFIG
    copied = {file.relative_to(workdir.path): data for file, data in contents(workdir.path).items()}
    given = {file.relative_to(other.path): data for file, data in contents(other.path).items()}
    assert copied == given


def test_only_trained_tokenizers_are_adopted_and_only_once(tmp_path):
    workdir = Workdir.of(tmp_path / "run")
    untrained = Workdir.of(tmp_path / "untrained")
    untrained.tokenizer.save_config(CONFIG)
    with pytest.raises(ValueError, match=r"untrained: holds no trained tokenizer; name a working"):
        workdir.adopt_tokenizer(untrained)
    assert not workdir.path.exists()

    workdir.tokenizer.save_config(CONFIG)
    before = contents(workdir.path)
    with pytest.raises(ValueError, match=r"tokenizer: already holds a tokenizer, trained or begun"):
        workdir.adopt_tokenizer(trained_tokenizer(tmp_path / "other"))
    assert contents(workdir.path) == before
