"""Runs in a bucket: checkpoints, logs and the lock keep what they promise on a disk."""

import json
import os
import signal

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from mvar_jax.files import (
    draft_of,
    names_below,
    read_grown,
    read_version,
    write_text,
    write_version,
)
from mvar_jax.training import lock
from mvar_jax.training.checkpoint import Checkpoints
from mvar_jax.training.lock import NAME, RunLock
from mvar_jax.training.metrics import MetricsLog
from mvar_jax.training.tensorboard import TensorBoard
from mvar_jax.training.weights import load_tokenizer, load_trunk
from mvar_jax.workdir import COMMITTED, Workdir, stored_steps
from tests.tiny_run import STEP, save_run
from tests.training.lock_holder import held_elsewhere
from tests.training.tiny import CONFIG, train_batches, trunk_state


def equal(ours, theirs):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, ours, theirs)))


def test_a_run_in_a_bucket_is_loaded_as_one_on_a_disk(bucket, tmp_path):
    stored, local = save_run(f"{bucket}/run"), save_run(tmp_path / "run")
    assert stored.path == bucket / "run" and stored.last_step == STEP
    assert stored.config() == local.config() and stored.record() == local.record()
    assert equal(load_trunk(CONFIG, stored, verify=True), load_trunk(CONFIG, local, verify=True))
    copied = Workdir.of(f"{bucket}/copied")
    copied.adopt_tokenizer(local)
    assert equal(load_tokenizer(CONFIG, copied, verify=True), load_tokenizer(CONFIG, local))
    with pytest.raises(ValueError, match="already holds a tokenizer, trained or begun"):
        copied.check_adopts(stored)
    back = Workdir.of(tmp_path / "back")
    back.adopt_tokenizer(copied)
    assert equal(load_tokenizer(CONFIG, back, verify=True), load_tokenizer(CONFIG, local))


def test_a_tokenizer_that_was_half_copied_is_copied_again(bucket, tmp_path):
    local, run = save_run(tmp_path / "run"), Workdir.of(f"{bucket}/run")
    write_text(draft_of(run.tokenizer.path), "")
    write_text(run.tokenizer.checkpoints / "7" / COMMITTED, "")
    write_text(run.tokenizer.path / "config.json", "{}")
    assert not run.tokenizer.is_trained
    with pytest.raises(ValueError, match="the process that copied it there was killed; run its"):
        run.tokenizer.config()
    run.adopt_tokenizer(local)
    assert run.tokenizer.last_step == STEP


def test_checkpoints_in_a_bucket_are_kept_skipped_and_set_aside(bucket, caplog):
    state, folder = trunk_state(), bucket / "run" / "checkpoints"
    batches = iter(train_batches())
    with Checkpoints(folder, keep=2) as checkpoints:
        assert checkpoints.restore(state, batches) is None
        for _ in range(3):
            state = jax.tree.map(lambda leaf: leaf, state).replace(step=state.step + 1)
            checkpoints.save(state, batches)
    assert stored_steps(folder) == [3, 2]
    (broken,) = (name for name in names_below(folder / "3") if name.endswith("optimizer/_METADATA"))
    write_text(folder / "3" / broken, "{}")
    write_text(folder / "9" / "params" / "d" / "x", "of a process that was killed")
    assert stored_steps(folder) == [3, 2]
    with Checkpoints(folder, keep=2) as checkpoints:
        restored = checkpoints.restore(state, batches)
    assert int(restored.step) == 2 and stored_steps(folder) == [2]
    assert "is damaged" in caplog.text and (folder / "3.damaged" / COMMITTED).is_file()
    assert not (folder / "9").exists()


def test_a_log_goes_on_where_a_killed_run_stopped(bucket):
    path = bucket / "metrics.jsonl"
    log = MetricsLog(path, 0)
    for step in (1, 2, 3):
        log.append({"step": step, "loss": step / 3})
    again = MetricsLog(path, 2)
    assert [row["step"] for row in again.rows] == [1, 2]
    again.append({"step": 3, "loss": 1.0})
    again.close()
    assert names_below(bucket) == ["metrics.jsonl"]
    assert [json.loads(line)["loss"] for line in read_grown(path).splitlines()] == [1 / 3, 2 / 3, 1]


def test_events_are_files_of_their_own_in_order(bucket):
    board = TensorBoard(bucket / "tensorboard", 4)
    for step in (5, 6):
        board.scalars({"step": step, "loss": 0.5})
    board.picture("samples", 6, np.zeros((2, 2, 3), np.uint8))
    board.close()
    names = names_below(bucket / "tensorboard")
    assert len(names) == 3
    events = [event for name in names for event in read_events(bucket / "tensorboard" / name)]
    assert [event.step for event in events if event.HasField("summary")] == [5, 6, 6]


def read_events(path):
    """The events of a file: each between its length with checksum, and a checksum."""
    data = path.read_bytes()
    while data:
        size = int.from_bytes(data[:8], "little")
        event = Event()
        event.ParseFromString(data[12 : 12 + size])
        data = data[16 + size :]
        yield event


@pytest.fixture
def holder(bucket):
    """Another process that trains in the bucket."""
    with held_elsewhere(bucket) as process:
        yield process


def test_a_second_run_is_refused_until_the_first_was_silent(bucket, holder, monkeypatch):
    with pytest.raises(ValueError, match=rf"{bucket}: another run writes here .*{holder.pid}\)"):
        RunLock(bucket).__enter__()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    monkeypatch.setattr(lock, "SILENCE", 6.0)
    with RunLock(bucket) as held:
        assert json.loads(read_version(bucket / NAME).content)["process"] == os.getpid()
        held.check_held()
    assert names_below(bucket) == []


def test_a_run_whose_lock_was_taken_notices(bucket, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.1)
    with RunLock(bucket) as held:
        while True:  # between two heartbeats
            try:
                write_version(bucket / NAME, b"{}", read_version(bucket / NAME).generation)
                break
            except FileExistsError:
                continue
        held._beating.join()
        with pytest.raises(ValueError, match=rf"{bucket}: another run took over"):
            held.check_held()
    assert read_version(bucket / NAME).content == b"{}"  # which is the other's
