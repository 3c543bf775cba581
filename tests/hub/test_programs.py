"""`python -m mvar_jax.share`, and programs that read what it uploaded, as users run them."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import jax
import numpy as np
import pytest
import yaml

import mvar_jax
from mvar_jax.convert.shared_model import shared_model
from mvar_jax.hub.upload import upload
from mvar_jax.training.stored import check_is_run
from mvar_jax.workdir import SHARED_FILES, Workdir
from tests.convert.models import TRUNKS, official_weights, write_official
from tests.hub.stand_in import TOKEN

TINY = "hf://me/tiny"
WRITTEN = {"README.md", *SHARED_FILES} - {"tokenizer/classes.json"}


@pytest.fixture
def program(hub, tmp_path, monkeypatch):
    """Runs `python -m mvar_jax.PROGRAM ...` beside the stand-in; its words are split at spaces."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, value in hub.environment.items():
        monkeypatch.setenv(name, value)

    def program(line):
        command = [sys.executable, "-m", *f"mvar_jax.{line}".split()]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    program.folder = folder
    return program


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def refused(result, sentence):
    assert result.returncode == 2, result.stderr
    assert re.search(sentence, result.stderr.splitlines()[-1]), result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_goes_up_and_comes_down_again(program, hub, run, monkeypatch):
    share = f"share --workdir={run.path} --repo=me/tiny --out=shared --license=apache-2.0"
    result = program(f"{share} --dry-run --upload")
    assert result.returncode == 0, result.stderr
    assert "It would be to shared and uploaded to hf://me/tiny." in result.stdout
    assert "license: apache-2.0" in result.stdout and not list(program.folder.iterdir())
    assert hub.asked == []
    listed = [line.split() for line in result.stdout.partition("\n\n")[0].splitlines()]

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    result = program(f"{share} --upload")
    assert result.returncode == 0, result.stderr
    written = files(program.folder / "shared")
    assert written.keys() == WRITTEN
    assert {name: f"{len(data):,}" for name, data in written.items()} == {
        name: size for size, name in listed
    }
    uploaded = hub.repositories["me/tiny"]
    assert uploaded.files("main") == written and len(uploaded.commits) == 1
    assert f"Uploaded {TINY}@{uploaded.resolve('main')}." in result.stdout

    result = program(f"sample --workdir={TINY} --labels=cat,2 --columns=1 --out=a.npz")
    assert result.returncode == 0, result.stderr
    assert f"{TINY}@{uploaded.resolve('main')}: 7 file(s)" in result.stderr
    with np.load(program.folder / "a.npz") as arrays:
        tokens = np.concatenate(mvar_jax.load(run.path).sample([0, 2], seed=0).tokens, axis=1)
        np.testing.assert_array_equal(arrays["tokens"], tokens)


def test_official_weights_are_imported_from_the_hub(program, hub, tmp_path):
    (tmp_path / "repo").mkdir()
    write_official(tmp_path / "repo" / "var.pth", official_weights(TRUNKS["var"]))
    hub.share("official/var", tmp_path / "repo")
    result = program("convert import --checkpoint=hf://official/var/var.pth --out=run")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "run: var of depth 2, width 64, 1 heads, 3 classes, scales 1,2.\n"
    assert Workdir.of("run").is_trained


class Evil:
    """Loading it by pickle runs a command."""

    def __reduce__(self):
        return os.system, ("touch it_ran",)


BAD = {
    "sample --workdir=hf://me/none --labels=1 --out=a.png": "error: hf://me/none: the Hub has no",
    "train --config=digits.py --workdir=hf://me/a": "a model on the .* Hub is only read, and",
    "train --config=digits.py --workdir=new --init=hf://me": "got 'hf://me', expected hf://OWNER/NA",
    "convert import --checkpoint=hf://me/evil/a.pth --out=new": "it holds 'posix.system', expected",
    "share --workdir=x --repo=me/a --out=new": "--license is missing, expected a value",
}


@pytest.mark.parametrize(("line", "sentence"), BAD.items())
def test_bad_input_is_one_sentence(program, hub, tmp_path, line, sentence):
    (tmp_path / "evil").mkdir()
    with zipfile.ZipFile(tmp_path / "evil" / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"pos_1LC": Evil()}, 2))
    hub.share("me/evil", tmp_path / "evil")
    refused(program(line), sentence)
    assert not list(program.folder.iterdir())


def make(run, **changes):
    return shared_model(run, **{"repository": "me/tiny", "license_name": "mit"} | changes)


def test_uploading_needs_a_token(hub, shared, monkeypatch):
    with pytest.raises(ValueError, match=r"tiny: the Hub .*log in by `hf auth login`, or set HF_T"):
        upload(shared, "me/tiny")
    assert hub.repositories == {}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    upload(shared, "me/tiny", private=True)
    assert hub.repositories["me/tiny"].private
    assert hub.repositories["me/tiny"].files("main") == files(shared)


def test_a_private_upload_does_not_go_where_all_may_read(hub, shared, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    public = hub.share("me/tiny", shared)
    with pytest.raises(ValueError, match=r"hf://me/tiny: it is there already, for all to read, ex"):
        upload(shared, "me/tiny", private=True)
    assert len(public.commits) == 1 and not public.private
    public.private = True
    upload(shared, "me/tiny", private=True)
    assert len(public.commits) == 1 and hub.asked[-1][1].endswith("/commit/main")


def test_an_upload_without_a_connection_names_the_command_for_later(hub, shared, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=rf"cannot be reached .* by hf upload me/tiny {shared}"):
        upload(shared, "me/tiny")


def test_the_card_says_what_the_run_measured(run, tmp_path):
    copy = Workdir.of(shutil.copytree(run.path, tmp_path / "copy"))
    (copy.path / "report.json").write_text('{"frechet": 2.5, "seconds": {"total": 3}, "why": "x"}')
    row = {"step": 40, "loss": 1.25, "loss_scale_1": 9.0, "validation_loss": 1.5}
    (copy.path / "metrics.jsonl").write_text('{"step": 1, "loss": 7}\n' + json.dumps(row) + "\n")
    (copy.path / "samples").mkdir()
    for step in (9, 10):
        (copy.path / "samples" / f"{step}.png").write_bytes(b"%d" % step)
    model = make(copy)
    _, front, text = model.texts["README.md"].split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "mit",
        "library_name": "mvar_jax",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["image-generation", "next-scale-prediction", "jax", "flax", "m-var"]
        + ["arxiv:2411.10433"],
    }
    for line in (
        "| frechet | 2.5 | report.json |",
        "| loss | 1.25 | training of the trunk |",
        "| validation_loss | 1.5 | training of the trunk |",
        "python -m mvar_jax.sample --workdir=hf://me/tiny --labels=0,1,2 --seed=0 --out=grid.png",
        "The classes begin with cat, dog, fox;",
        "![Samples](samples.png)",
    ):
        assert line in text, line
    assert "seconds" not in text and "loss_scale" not in text and "why" not in text
    model.write(tmp_path / "shared")
    assert (tmp_path / "shared" / "samples.png").read_bytes() == b"10"
    (copy.path / "report.json").write_text("[]")
    with pytest.raises(ValueError, match=r"report.json: expected an object of JSON; move it away"):
        make(copy)


def test_what_is_private_stays_here(run, tmp_path):
    copy = Workdir.of(shutil.copytree(run.path, tmp_path / "copy"))
    config = copy.config()
    data = replace(config.data, directory="/home/me", tokens="/t", text_encoder="/home/me/t5")
    training = replace(config.training, wandb="mine")
    copy.save_config(replace(config, data=data, training=training))
    model = make(copy)
    assert not re.search('/home/me|/t"|mine', "".join(model.texts.values()))
    model.write(tmp_path / "shared")
    assert mvar_jax.load(tmp_path / "shared").config == config


def test_sixteen_bits_are_half_the_bytes_and_know_their_tokenizer(run, tmp_path):
    whole, half = make(run), make(run, dtype="bfloat16")
    assert half.sizes()["model.safetensors"] < 0.7 * whole.sizes()["model.safetensors"]
    half.write(tmp_path / "half")
    loaded, trained = mvar_jax.load(tmp_path / "half"), mvar_jax.load(run.path)
    expected = jax.tree.map(lambda leaf: leaf.astype("bfloat16").astype("float32"), trained.weights)
    jax.tree.map(np.testing.assert_array_equal, loaded.weights, expected)


def test_a_shared_model_is_finished_and_no_run_to_go_on_with(shared, tmp_path):
    for part in (Workdir.of(shared), Workdir.of(shared).tokenizer):
        part.check_finished()
        assert part.is_shared and part.last_step == 0
        with pytest.raises(ValueError, match=r"holds a shared model .*use another --workdir"):
            check_is_run(part.checkpoints)
    tuned = Workdir.of(tmp_path / "tuned")
    tuned.adopt_tokenizer(Workdir.of(shared))
    assert files(tuned.tokenizer.path) == files(shared / "tokenizer")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"repository": "me"}, "got 'me' for a model of the Hub, expected OWNER/NAME"),
        ({"license_name": "MIT\nx: y"}, "--license: got .*expected a licence as the Hub names"),
        ({"verify": True}, "holds no seal.json, expected one to verify its files by"),
    ],
)
def test_what_cannot_be_shared_is_refused(run, tmp_path, changes, sentence):
    copy = Workdir.of(shutil.copytree(run.path, tmp_path / "copy"))
    for seal in copy.path.rglob("seal.json"):
        seal.unlink()
    with pytest.raises(ValueError, match=sentence):
        make(copy, **changes)


def test_a_write_that_fails_leaves_nothing(run, tmp_path, monkeypatch):
    def fail(file, params):
        file.touch()
        raise OSError("disk full")

    monkeypatch.setattr("mvar_jax.convert.shared_model.save_shared", fail)
    with pytest.raises(OSError, match="disk full"):
        make(run).write(tmp_path / "shared")
    assert not list(tmp_path.iterdir())
