"""Downloads from a stand-in of the Hub: what is taken, what is refused, and what is said."""

import os
import pickle
import re
import shutil
import sys

import huggingface_hub.constants
import jax
import numpy as np
import pytest

import mvar_jax
from mvar_jax.hub import TEXT_ENCODER, WEIGHT_FILES, local_path, open_workdir
from mvar_jax.training.adapted import find_base
from mvar_jax.workdir import SHARED_FILES, RunRecord, Workdir
from tests.hub.stand_in import TOKEN

NAME = "me/tiny"
TINY = f"hf://{NAME}"


def go_offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def lose_connection(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")


def fail(monkeypatch, hub):
    hub.status = 503


def check_same_model(one, other):
    assert (one.config, one.class_names) == (other.config, other.class_names)
    jax.tree.map(np.testing.assert_array_equal, one.weights, other.weights)


def test_a_model_is_loaded_bit_equal_and_its_commit_said(hub, run, shared, capsys):
    repository = hub.share(NAME, shared)
    model = mvar_jax.load(TINY)
    commit = repository.resolve("main")
    assert re.fullmatch(rf"{TINY}@{commit}: 7 file\(s\), 0.\d MB\.\n", capsys.readouterr().err)
    folder, trained = mvar_jax.load(shared), mvar_jax.load(run.path)
    check_same_model(model, folder)
    assert model.class_names == trained.class_names
    jax.tree.map(np.testing.assert_array_equal, model.weights, trained.weights)
    drawn = [each.sample([0, 2], seed=4).images for each in (model, folder, trained)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], drawn[2])


def test_only_files_of_a_shared_model_are_downloaded_and_once(hub, shared):
    repository = hub.share(NAME, shared)
    repository.add({"evil.pkl": pickle.dumps(print), "checkpoints/0/params": b"x", "a.py": b"x"})
    first = open_workdir(TINY)
    assert sorted(hub.files("HEAD")) == sorted({*SHARED_FILES} - {"tokenizer/classes.json"})
    assert hub.files("HEAD")[-1] == "config.json"
    downloaded = hub.files()
    assert len(downloaded) == len(set(downloaded)) <= 7
    assert open_workdir(TINY) == first
    assert hub.files() == downloaded
    assert first.config() == Workdir.of(shared).config()


@pytest.mark.parametrize("cut", [go_offline, lose_connection, fail])
def test_without_a_connection_the_cache_serves_and_says_its_commit(
    hub, shared, monkeypatch, capsys, cut
):
    commit = hub.share(NAME, shared).resolve("main")
    online = open_workdir(TINY)
    capsys.readouterr()
    cut(*(monkeypatch, hub)[: cut.__code__.co_argcount])
    for address in (TINY, f"{TINY}@{commit}"):
        assert open_workdir(address) == online
        said = capsys.readouterr().err
        assert said.startswith(f"{TINY}@{commit}: 7 file(s)") and "from the cache (" in said
    with pytest.raises(ValueError, match=r"hf://me/other: the Hub cannot be reached .*does not"):
        open_workdir("hf://me/other")


def test_a_download_that_was_interrupted_is_not_taken_from_the_cache(hub, shared, monkeypatch):
    repository = hub.share(NAME, shared)
    del repository.commits[repository.resolve("main")]["config.json"]
    with pytest.raises(ValueError, match=r"expected a model that .*share uploaded, but the repos"):
        open_workdir(TINY)
    repository.add({"config.json": (shared / "config.json").read_bytes()})
    monkeypatch.setattr(repository, "gated", True)
    with pytest.raises(ValueError, match=r"ask for access"):
        open_workdir(TINY)
    go_offline(monkeypatch)
    with pytest.raises(ValueError, match=r"cannot be reached .*HF_HUB_OFFLINE.*does not hold it"):
        open_workdir(TINY)


def test_revisions_stay_as_they_were(hub, shared, capsys):
    repository = hub.share(NAME, shared)
    old = repository.resolve("main")
    config = (shared / "config.json").read_bytes().replace(b'"seed": 0', b'"seed": 1')
    new = repository.add({"config.json": config})
    assert [open_workdir(f"{TINY}{at}").config().seed for at in ("", f"@{new}", f"@{old}")] == [
        *(1, 1, 0)
    ]
    assert [line[len(TINY) + 1 :][:40] for line in capsys.readouterr().err.splitlines()] == [
        *(new, new, old)
    ]


def test_the_base_of_an_adapter_is_found_again_where_the_cache_has_lost_it(hub, shared, tmp_path):
    repository = hub.share(NAME, shared)
    base, adapter = open_workdir(TINY), Workdir.of(tmp_path / "adapter")
    assert base.name == f"{TINY}@{repository.resolve('main')}"
    (tmp_path / "adapter").mkdir()
    adapter.save_record(RunRecord(1, base=base.name, base_checksum="0" * 64))
    repository.add({"config.json": b"{}"})  # a later commit
    shutil.rmtree(huggingface_hub.constants.HF_HUB_CACHE)
    found = find_base(adapter)
    assert found == base and found.config() == Workdir.of(shared).config()


def test_what_is_not_there_what_is_hidden_and_what_needs_asking_are_told_apart(hub, shared):
    hub.share("me/hidden", shared, private=True)
    hub.share("me/gated", shared, gated=True)
    hub.share(NAME, shared)
    missing = "the Hub has no model of that name, or it is private; check .*/me/{}, and for .* log"
    for name in ("none", "hidden"):
        with pytest.raises(ValueError, match=f"^hf://me/{name}: {missing.format(name)}"):
            open_workdir(f"hf://me/{name}")
    with pytest.raises(ValueError, match=r"^hf://me/gated: .*; ask for access on .*/me/gated, th"):
        open_workdir("hf://me/gated")
    with pytest.raises(ValueError, match=r"the model has no revision 'v9'; name a branch, a tag"):
        open_workdir(f"{TINY}@v9")
    with pytest.raises(ValueError, match=r"nothing: .*uploaded, but the repository holds READ"):
        open_workdir(f"{TINY}/nothing/")


def test_a_token_opens_what_is_hidden(hub, shared, monkeypatch):
    hub.share("me/hidden", shared, private=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert open_workdir("hf://me/hidden").is_trained
    hub.status = 403
    with pytest.raises(ValueError, match=r"does not let this token do that, or needs one \(403\)"):
        open_workdir("hf://me/hidden")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "tokenizer/../../x", "a\\b"])
def test_a_listing_with_tricks_is_refused_and_nothing_downloaded(hub, shared, name):
    hub.share(NAME, shared, listed=(name,))
    with pytest.raises(ValueError, match=r"lists a file .*, which would lie outside of it"):
        open_workdir(TINY)
    assert hub.files() == [] and not hub.cache.exists()


def test_a_commit_that_is_a_path_is_refused(hub, shared):
    hub.share(NAME, shared, commit="../../outside")
    with pytest.raises(ValueError, match=r"says that its commit is '\.\./\.\./outside'"):
        open_workdir(TINY)
    assert not hub.cache.exists()


def test_sizes_that_do_not_match_are_refused(hub, shared):
    hub.share(NAME, shared, sizes={"model.safetensors": 7})
    with pytest.raises(ValueError, match=r"model.safetensors has \d+ bytes, expected 7 as the Hub"):
        open_workdir(TINY)


def test_a_link_out_of_the_cache_is_refused(hub, shared, tmp_path, monkeypatch):
    hub.share(NAME, shared)
    file = open_workdir(TINY).path / "classes.json"
    secret = tmp_path / "secret.json"
    shutil.copy(file, secret)
    file.unlink()
    file.symlink_to(secret)
    for cut in (lambda _: None, go_offline):
        cut(monkeypatch)
        with pytest.raises(ValueError, match=rf"classes.json leads to {secret}, outside of the c"):
            open_workdir(TINY)


def test_files_of_weights_are_downloaded_alone(hub, tmp_path, monkeypatch):
    files = {"var.pth": b"1", "part-1.safetensors": b"2", "model.safetensors.index.json": b"{}"}
    for folder in (tmp_path / "repo", tmp_path / "repo" / "shards"):
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
    (tmp_path / "repo" / "run.py").write_bytes(b"")
    hub.share(NAME, tmp_path / "repo")
    file = local_path(f"{TINY}/var.pth", WEIGHT_FILES)
    assert file.read_bytes() == b"1" and hub.files() == ["var.pth"]
    folder = local_path(f"{TINY}/shards", WEIGHT_FILES)
    assert sorted(os.listdir(folder)) == ["model.safetensors.index.json", "part-1.safetensors"]
    with pytest.raises(ValueError, match=r"expected model.safetensors or shards .*holds model"):
        local_path(f"{TINY}/run.py", WEIGHT_FILES)
    go_offline(monkeypatch)
    assert local_path(f"{TINY}/var.pth", WEIGHT_FILES) == file
    assert local_path(f"{TINY}/shards", WEIGHT_FILES) == folder


def test_text_encoders_are_downloaded_without_their_pickles(hub, tmp_path):
    kept = ["a.safetensors", "config.json", "spiece.model"]
    for name in (*kept, "pytorch_model.bin", "flax.msgpack"):
        (tmp_path / name).write_bytes(b"{}")
    hub.share(NAME, tmp_path)
    folder = local_path(TINY, TEXT_ENCODER)
    assert sorted(os.listdir(folder)) == kept


def test_paths_of_this_machine_are_left_alone(hub, tmp_path):
    assert open_workdir(tmp_path).path == tmp_path
    assert local_path(str(tmp_path), WEIGHT_FILES) == tmp_path
    assert hub.asked == []


def test_the_hub_is_not_written_to_by_name():
    with pytest.raises(ValueError, match=r"tiny: a model on the .* Hub is only read, and not"):
        Workdir.of(TINY)


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"need the package huggingface_hub; .* -e '.\[hub\]'"):
        open_workdir(TINY)
