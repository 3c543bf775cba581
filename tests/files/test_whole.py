"""Files that are whole or not there."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mvar_jax.files import (
    UNFINISHED,
    draft_folder,
    draft_of,
    load_json,
    parse_json,
    user_path,
    write_json,
    write_text,
    written_whole,
)
from mvar_jax.workdir import Workdir


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "a.json"
    with written_whole(path) as draft:
        draft.write_text("half")
        assert names(tmp_path) == ["a.json.unfinished"]
    assert path.read_text() == "half" and names(tmp_path) == ["a.json"]


def test_text_is_utf_8_and_replaces_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    write_text(path, "köttur")
    assert path.read_bytes() == "köttur".encode() and names(tmp_path) == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyError), written_whole(path) as draft:
        draft.write_text("half")
        raise KeyError
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


KILLED = """
import sys, time
from pathlib import Path
from mvar_jax.files import written_whole
with written_whole(Path(sys.argv[1])) as draft:
    draft.write_text("half")
    time.sleep(600)
"""


def test_a_killed_process_leaves_a_draft_that_the_next_one_replaces(tmp_path):
    path = tmp_path / "a.txt"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)])
    while not draft_of(path).exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert names(tmp_path) == ["a.txt.unfinished"]
    write_text(path, "whole")
    assert path.read_text() == "whole" and names(tmp_path) == ["a.txt"]


def test_processes_that_share_a_file_have_drafts_of_their_own(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    with written_whole(path, shared=True) as one:
        one.write_text("one")
        monkeypatch.setattr(os, "getpid", lambda: 0)
        with written_whole(path, shared=True) as two:
            two.write_text("two")
        assert path.read_text() == "two" and one.name.endswith(UNFINISHED)
    assert path.read_text() == "one" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("filename", [None, "draft", "other"])
def test_errors_name_the_file_that_was_to_be_written(tmp_path, filename):
    path = tmp_path / "a.txt"
    given = {None: (), "draft": (str(draft_of(path)),), "other": ("/other",)}[filename]
    with pytest.raises(OSError) as caught, written_whole(path):
        raise OSError(errno.ENOSPC, "No space left on device", *given)
    assert caught.value.filename == ("/other" if filename == "other" else str(path))
    assert caught.value.errno == errno.ENOSPC


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "none" / "a.txt", "text")
    assert caught.value.filename == str(tmp_path / "none" / "a.txt")


def test_homes_are_found_and_that_of_nobody_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a") == tmp_path / "a" and user_path("a~/~b") == Path("a~/~b")
    for place in (user_path, Workdir.of):
        with pytest.raises(ValueError, match=r"^~nobodyx/a: found no home for '~nobodyx', expect"):
            place("~nobodyx/a")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe1\x00", b"[" * 10**5, b'{"a":' * 10**5])
def test_whatever_is_no_json_is_one_kind_of_error(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text)
    for read, given in ((parse_json, text), (load_json, tmp_path / "a.json")):
        with pytest.raises(ValueError):
            read(given)
    assert (
        parse_json('["k\u00f6ttur"]') == parse_json('["k\u00f6ttur"]'.encode()) == ["k\u00f6ttur"]
    )


def test_a_draft_of_a_folder_starts_empty_and_does_not_stay(tmp_path):
    left = tmp_path / "run.unfinished"
    left.mkdir()
    (left / "old").write_text("of an interrupted attempt")
    with draft_folder(tmp_path / "run") as draft:
        assert not draft.exists()
        draft.mkdir()
        (draft / "new").write_text("whole")
        draft.replace(tmp_path / "run")
    assert names(tmp_path) == ["run"] and names(tmp_path / "run") == ["new"]
    with pytest.raises(KeyError), draft_folder(tmp_path / "other") as draft:
        draft.mkdir()
        raise KeyError
    assert names(tmp_path) == ["run"]


def test_numbers_that_json_has_not_are_refused(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1.5})
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"a\.json: got NaN or an infinite number to write"):
            write_json(path, {"a": value})
    assert load_json(path) == {"a": 1.5}
