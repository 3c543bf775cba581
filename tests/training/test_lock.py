"""Two runs in one directory: the second is refused while the first lives, and only then."""

import json
import os
import signal
import socket

import pytest

from mvar_jax.files import BucketPath, Version
from mvar_jax.training import lock, lock_file, lock_object
from mvar_jax.training.lock import NAME, RunLock
from mvar_jax.training.lock_file import LockFile
from mvar_jax.training.lock_object import LockObject
from tests.training.lock_holder import held_elsewhere


@pytest.fixture
def holder(tmp_path):
    """Another process that trains in `tmp_path`."""
    with held_elsewhere(tmp_path) as process:
        yield process


def test_a_second_run_is_refused_and_the_first_one_named(tmp_path, holder):
    before = (tmp_path / NAME).read_text()
    named = rf"{tmp_path}: another run writes here \(host {socket.gethostname()}, process "
    for _ in range(2):  # a refusal does not take the lock away
        with pytest.raises(ValueError, match=rf"{named}{holder.pid}\); .* another folder"):
            RunLock(tmp_path).__enter__()
    assert (tmp_path / NAME).read_text() == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_was_killed_blocks_nothing(tmp_path, holder, number, caplog):
    holder.send_signal(number)
    holder.wait()
    with RunLock(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == [] and not caplog.text


def test_an_owner_on_another_machine_counts_as_long_as_it_gives_signs_of_life(
    tmp_path, holder, monkeypatch, caplog
):
    monkeypatch.setattr(lock_file, "_lock", lambda file: False)  # as where files carry no locks
    monkeypatch.setattr(lock, "SILENCE", 15.0)
    with pytest.raises(ValueError, match=f"another run writes here .* process {holder.pid}"):
        RunLock(tmp_path).__enter__()
    assert "Waiting 15 seconds to see whether process" in caplog.text

    holder.kill()
    holder.wait()
    monkeypatch.setattr(lock, "SILENCE", 6.0)
    with RunLock(tmp_path):
        pass


def test_a_lock_is_taken_again_and_a_broken_one_too(tmp_path):
    (tmp_path / NAME).write_text('{"host": ')
    for _ in range(2):
        with RunLock(tmp_path / "new" / "run"), RunLock(tmp_path):
            pass
    assert list((tmp_path / "new" / "run").iterdir()) == []


def test_a_run_that_ends_while_its_lock_is_looked_at_lets_the_next_one_in(tmp_path, monkeypatch):
    ending, look = LockFile(tmp_path / NAME), lock_file._lock
    ending.take()
    ending.claim(b'{"host": "here", "process": 1}')

    def look_as_it_ends(file):
        try:
            return look(file)
        except BlockingIOError:
            ending.release()
            raise

    monkeypatch.setattr(lock_file, "_lock", look_as_it_ends)
    with RunLock(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["process"] == os.getpid()


def test_a_run_that_ends_while_its_heartbeats_are_waited_for_does_too(tmp_path, monkeypatch):
    (tmp_path / NAME).write_text('{"host": "elsewhere", "process": 1}')
    with monkeypatch.context() as patch:
        patch.setattr(lock.time, "sleep", lambda seconds: (tmp_path / NAME).unlink(missing_ok=True))
        taken = RunLock(tmp_path).__enter__()
    assert json.loads((tmp_path / NAME).read_text())["process"] == os.getpid()
    taken.__exit__()


def test_a_file_that_its_owner_deleted_gives_another_sign_than_before(tmp_path):
    held = LockFile(tmp_path / NAME)
    held.take()
    held.claim(b"{}")
    assert held.beats() > 0
    held.release()
    assert held.beats() == 0


def test_an_object_is_held_though_the_answer_was_lost(monkeypatch):
    """The client of a bucket tries again, and is refused by what it wrote itself."""
    objects = [Version(b"", 0)]

    def write(path, content, seen):
        if objects[-1].generation == seen:
            objects.append(Version(content, seen + 1))
        raise FileExistsError

    monkeypatch.setattr(lock_object, "read_version", lambda path: objects[-1])
    monkeypatch.setattr(lock_object, "write_version", write)
    ours, other = (LockObject(BucketPath("gs://bucket/run.lock")) for _ in range(2))
    for holder in (ours, other):
        holder.take()
    ours.claim(b"ours")
    assert ours.beat()
    with pytest.raises(BlockingIOError):
        other.claim(b"another")
    objects.append(Version(b"another", 9))
    assert not ours.beat()


def test_the_error_of_a_run_stands_where_its_lock_cannot_be_released(tmp_path, monkeypatch):
    def release(self):
        self.leave()
        raise OSError("the disk is gone")

    monkeypatch.setattr(LockFile, "release", release)
    with pytest.raises(KeyError, match="its own"), RunLock(tmp_path):
        raise KeyError("its own")
