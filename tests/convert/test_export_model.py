"""What sampling needs of a run, as a directory of its own: whole, sealed, and nothing else."""

import shutil

import jax
import numpy as np
import pytest

import mvar_jax
from mvar_jax.convert.export_model import export_model
from mvar_jax.experiment.starting_weights import inherit_trunk
from mvar_jax.training.seal import SEAL
from mvar_jax.training.stored import check_is_run
from mvar_jax.workdir import Workdir
from tests.tiny_run import STEP, save_run
from tests.training.tiny import CONFIG


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Do not write there."""
    return save_run(tmp_path_factory.mktemp("run"))


def check_same_model(workdir, run):
    one, other = mvar_jax.load(workdir.path), mvar_jax.load(run.path)
    assert (one.config, one.class_names) == (other.config, other.class_names)
    jax.tree.map(np.testing.assert_array_equal, one.weights, other.weights)


def names(workdir):
    return {path.relative_to(workdir.path).as_posix() for path in workdir.path.rglob("*")}


def test_what_is_exported_is_all_that_sampling_needs(run, tmp_path):
    out = Workdir.of(tmp_path / "shared")
    assert export_model(run, out.path) == "a model to sample from, its tokenizer included"
    check_same_model(out, run)
    assert [path.name for path in tmp_path.iterdir()] == ["shared"]
    for part in (out, out.tokenizer):
        assert {path.name for path in (part.checkpoints / "0").iterdir()} >= {"params", SEAL}
    assert not [
        name for name in names(out) if {"optimizer", "data", "average"} & {*name.split("/")}
    ]
    assert {path.name for path in out.path.iterdir()} == {
        *("config.json", "classes.json", "run.json", "checkpoints", "tokenizer")
    }


def test_it_is_finished_and_knows_its_tokenizer_but_is_no_run_to_go_on_with(run, tmp_path):
    out = Workdir.of(tmp_path / "shared")
    export_model(run, out.path)
    for part in (out, out.tokenizer):
        part.check_finished()
        with pytest.raises(ValueError, match=r"alone \(no optimizer, no data position\), as impor"):
            check_is_run(part.checkpoints)
    assert out.record().tokenizer == run.record().tokenizer
    tuned = Workdir.of(tmp_path / "tuned")
    tuned.adopt_tokenizer(out)
    average = mvar_jax.load(run.path).weights.trunk
    inherited = inherit_trunk(CONFIG, out, ("cat", "dog", "fox"))
    jax.tree.map(np.testing.assert_array_equal, inherited, average)


def test_a_failure_leaves_nothing_behind(run, tmp_path, monkeypatch):
    def fail(directory, arrays):
        directory.mkdir(parents=True)
        raise OSError("disk full")

    monkeypatch.setattr("mvar_jax.convert.export_model.save_params", fail)
    with pytest.raises(OSError, match="disk full"):
        export_model(run, tmp_path / "shared")
    with pytest.raises(ValueError, match=r"--out: .*nowhere is no directory"):
        export_model(run, tmp_path / "nowhere" / "shared")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="is there already; name a new folder"):
        export_model(run, tmp_path)


def test_a_run_without_its_tokenizer_is_refused(run, tmp_path):
    alone = shutil.copytree(run.path, tmp_path / "alone")
    shutil.rmtree(alone / "tokenizer")
    with pytest.raises(ValueError, match="alone: holds no tokenizer"):
        export_model(Workdir.of(alone), tmp_path / "shared")
    assert [path.name for path in tmp_path.iterdir()] == ["alone"]


def test_a_copy_of_a_run_without_optimizer_and_data_can_be_sampled_too(run, tmp_path):
    copy = Workdir.of(shutil.copytree(run.path, tmp_path / "copy"))
    for part in (copy, copy.tokenizer):
        for folder in ("optimizer", "data"):
            shutil.rmtree(part.checkpoints / str(STEP) / folder)
    check_same_model(copy, run)
