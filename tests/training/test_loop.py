"""The loop: what it writes and when, how it resumes, how it stops."""

import functools
import itertools
import json
import os
import shutil
import signal
import struct
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tensorboardX.proto.event_pb2 import Event

from mvar_jax.config import TrainingConfig
from mvar_jax.training.loop import Data, InitialState, Programs, Run, fit
from mvar_jax.training.preemption import Preempted
from mvar_jax.training.state import apply_gradients, create_state
from mvar_jax.training.throughput import StepCost
from tests.training.tiny import dataset, eval_batches, fit_tokenizer, fit_trunk, train_batches
from tests.training.tiny_losses import fit_with_all

CONFIG = TrainingConfig(
    steps=10, log_every=3, validate_every=4, validation_batches=2, save_every=5, ema_decay=0.9
)
ADAM = optax.adam(0.01)
TARGET = jnp.float32(1)


@functools.partial(jax.jit, donate_argnums=0)
def train_step(state, batch, target):
    """Moves a number towards the mean pixel, with noise of the step."""
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), state.step))

    def loss(params):
        return (params["w"] - jnp.mean(batch["image"]) - 0.1 * noise - target) ** 2

    value, gradients = jax.value_and_grad(loss)(state.params)
    norm = optax.global_norm(gradients)
    finite = jnp.isfinite(value)
    state = apply_gradients(state, gradients, ADAM, ema_decay=0.9, finite=finite)
    skipped = {"skipped": state.skipped[0], "skipped_in_a_row": state.skipped[1]}
    return state, {"loss": value, "gradient_norm": norm, **skipped}


@jax.jit
def evaluate(state, batch, target):
    return {"loss": jnp.mean((state.sampling_params["w"] - batch["image"] - target) ** 2)}


def run(
    directory,
    config=CONFIG,
    total_steps=10,
    batches=None,
    validation=None,
    target=TARGET,
    state=None,
    start=None,
    draw=None,
):
    state = state or create_state({"w": jnp.array(0.0)}, ADAM, config.ema_decay)
    programs = (functools.partial(f, target=target) for f in (train_step, evaluate))
    data = Data(
        train_batches() if batches is None else batches,
        eval_batches() if validation is None else validation,
    )
    return fit(
        Run("toy", directory, config, total_steps, StepCost(4)),
        Programs(*programs, draw),
        data,
        initial=InitialState(state, start or (lambda: state)),
    )


def rows(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def check_equal(outcome, other):
    jax.tree.map(np.testing.assert_array_equal, outcome.state, other.state)
    assert outcome.history == other.history


def test_rows_and_checkpoints_at_their_intervals(tmp_path):
    outcome = run(tmp_path)
    assert [row["step"] for row in outcome.history] == [3, 4, 5, 6, 8, 9, 10]
    assert [row["step"] for row in outcome.history if "validation_loss" in row] == [4, 8, 10]
    assert rows(tmp_path) == outcome.history
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "5"]
    assert int(outcome.state.step) == 10
    assert set(outcome.seconds) == {"restore", "compile", "train", "validate", "save"}


def test_validation_weighs_images_alike(tmp_path):
    outcome = run(tmp_path, total_steps=1)
    batches = list(eval_batches())
    assert [len(batch["image"]) for batch in batches] == [4, 2]
    image = np.concatenate([batch["image"] for batch in batches])
    expected = np.mean((float(outcome.state.average["w"]) - image - 1) ** 2)
    assert outcome.history[-1]["validation_loss"] == pytest.approx(expected, rel=1e-5)


def test_validation_in_parts_sees_the_images_of_whole_batches(tmp_path):
    def validated(directory, **changes):
        rows = iter([{"image": jnp.zeros(1), "label": jnp.zeros(1)}] * 9)
        run(directory, replace(CONFIG, **changes), total_steps=1, validation=rows)
        return 9 - len(list(rows))

    assert validated(tmp_path / "a") == 2
    assert validated(tmp_path / "b", accumulate=3) == 6


def test_a_resumed_run_creates_no_initial_state(tmp_path):
    state = run(tmp_path, total_steps=5).state

    def start():
        raise AssertionError

    expected = jax.eval_shape(lambda: state)
    assert int(run(tmp_path, total_steps=6, state=expected, start=start).state.step) == 6


class Killed(Exception):
    """Stands for the end of a process."""


def killed_after(count):
    """The training data of a process that is ended when it has read `count` batches."""
    seen = iter(range(count))

    def read(batch):
        if next(seen, None) is None:
            raise Killed
        return batch

    return train_batches().map(read)


@pytest.mark.parametrize("end", [1, 5, 7, 9])
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path, end, capfd):
    unbroken = run(tmp_path / "unbroken")
    with pytest.raises(Killed):
        run(tmp_path / "ended", batches=killed_after(end))
    with (tmp_path / "ended" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')
    resumed = run(tmp_path / "ended")
    check_equal(resumed, unbroken)
    assert rows(tmp_path / "ended") == rows(tmp_path / "unbroken")
    said = "toy: resuming at step 5 of 10" in capfd.readouterr().err
    assert said == (end >= 5)


def test_a_finished_run_does_nothing_and_says_so(tmp_path, capfd):
    outcome = run(tmp_path)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").rglob("*")}
    capfd.readouterr()
    again = run(tmp_path, batches=killed_after(0))
    assert capfd.readouterr().err == "toy: finished at step 10 of 10, nothing to do\n"
    check_equal(again, outcome)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert "compile" not in again.seconds


def test_more_steps_continue_a_finished_run(tmp_path):
    run(tmp_path / "longer")
    longer = run(tmp_path / "longer", total_steps=12)
    assert [row["step"] for row in longer.history] == [3, 4, 5, 6, 8, 9, 10, 12]


def bad_images(*numbers):
    """The training data, with batches of those numbers, from 1 on, that hold a NaN."""
    count = itertools.count(1)

    def spoil(batch):
        bad = np.float32("nan" if next(count) in numbers else 0)
        return batch | {"image": batch["image"] + bad}

    return dataset().to_iter_dataset().batch(4).map(spoil).map(jax.device_put)


def test_a_step_with_nan_is_skipped_and_counted(tmp_path):
    outcome = run(tmp_path, batches=bad_images(2, 6, 7))
    row = {row["step"]: row for row in outcome.history}
    assert [row[step]["skipped"] for step in (3, 5, 6, 8, 10)] == [1, 1, 2, 3, 3]
    assert row[6]["skipped_in_a_row"] == 1 and row[8]["skipped_in_a_row"] == 0
    assert row[6]["loss"] is None and row[8]["loss"] is not None
    assert outcome.state.skipped.tolist() == [3, 0] and int(outcome.state.step) == 10
    assert int(outcome.state.opt_state[0].count) == 7


def test_too_many_skipped_in_a_row_stop_the_run_and_name_the_last_good_checkpoint(tmp_path):
    config = replace(CONFIG, max_skipped=3)
    message = f"toy: 3 steps in a row up to step 8 .*loss nan.* is {tmp_path}/checkpoints/5; "
    with pytest.raises(ValueError, match=message):
        run(tmp_path, config, batches=bad_images(1, 3, 4, 6, 7, 8))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["5"]
    restored = run(tmp_path, config, total_steps=5)
    assert restored.state.skipped.tolist() == [3, 0]


def test_too_little_memory_names_what_to_change(tmp_path, monkeypatch):
    def fail(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes.")

    monkeypatch.setitem(globals(), "train_step", lambda state, batch, target: fail())
    message = r"toy: a device has not enough memory \(.* 12 bytes\); .*model.remat=.*fsdp"
    with pytest.raises(ValueError, match=message):
        run(tmp_path)


def test_an_initial_state_with_nan_is_refused(tmp_path):
    state = create_state({"layer": {"w": jnp.array(np.inf)}}, ADAM)
    with pytest.raises(ValueError, match="initial state has NaN or inf in params/layer/w"):
        run(tmp_path, state=state)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_damaged_checkpoint_is_renamed_and_the_one_before_it_restored(tmp_path, caplog):
    unbroken = run(tmp_path)
    spare = tmp_path / "checkpoints" / "10.damaged"
    spare.mkdir()
    shutil.rmtree(tmp_path / "checkpoints" / "10" / "optimizer")
    again = run(tmp_path)
    check_equal(again, unbroken)
    assert "checkpoints/10 is damaged (optimizer/" in caplog.text
    assert "resuming from 5; it is kept as 10.damaged.2" in caplog.text
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"5", "10", "10.damaged", "10.damaged.2"}
    assert (tmp_path / "checkpoints" / "10.damaged.2" / "params").is_dir()


def test_all_checkpoints_damaged(tmp_path):
    run(tmp_path)
    log = (tmp_path / "metrics.jsonl").read_text()
    for step in ("5", "10"):
        shutil.rmtree(tmp_path / "checkpoints" / step / "optimizer")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"all checkpoints are damaged: 10 \(.*, 5 \("):
            run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == log


def test_sigterm_saves_the_current_step_and_exits_with_0(tmp_path, capfd):
    unbroken = run(tmp_path / "unbroken")
    with pytest.raises(Preempted) as stopped:
        run(tmp_path / "ended", batches=ask_to_stop_after(7))
    assert stopped.value.code == 0
    assert "toy: asked to stop, saved step 7 of 10" in capfd.readouterr().err
    assert (tmp_path / "ended" / "checkpoints" / "7").is_dir()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    check_equal(run(tmp_path / "ended"), unbroken)
    assert rows(tmp_path / "ended") == rows(tmp_path / "unbroken")


def ask_to_stop_after(count):
    """The training data of a process that gets SIGTERM when it reads batch `count`."""
    seen = itertools.count(1)

    def read(batch):
        if next(seen) == count:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    return train_batches().map(read)


def test_checkpoints_of_some_steps_stay(tmp_path):
    run(tmp_path, replace(CONFIG, save_every=2, keep_checkpoints=1, keep_every=4))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "4", "8"]


def test_pictures_are_drawn_at_their_interval(tmp_path):
    def draw(state, path):
        drawn.append((int(state.step), path.relative_to(tmp_path).as_posix()))
        return np.zeros((2, 3, 3), np.uint8)

    drawn = []
    outcome = run(tmp_path, replace(CONFIG, sample_every=4), draw=draw)
    assert drawn == [(4, "samples/4.png"), (8, "samples/8.png"), (10, "samples/10.png")]
    assert "draw" in outcome.seconds
    assert len(events(tmp_path)["samples"]) == 3


def test_measurements_of_the_machine_have_their_own_file(tmp_path):
    run(tmp_path)
    log = (tmp_path / "throughput.jsonl").read_text().splitlines()
    speeds = [json.loads(line) for line in log]
    assert [row["step"] for row in speeds] == [3, 4, 5, 6, 8, 9, 10]
    assert all(row["images_per_second"] * row["step_seconds"] > 3.99 for row in speeds)
    assert set(events(tmp_path)) >= {"loss", "validation_loss", "skipped", "images_per_second"}


def test_tensorboard_drops_steps_that_are_repeated(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, batches=killed_after(9))
    outcome = run(tmp_path)
    shown = [(step, value) for step, value in events(tmp_path)["loss"]]
    assert [step for step, _ in shown] == [row["step"] for row in outcome.history]
    np.testing.assert_allclose([v for _, v in shown], [row["loss"] for row in outcome.history])


def events(directory):
    """(step, value) of every event by name, as TensorBoard shows them: later starts purge."""
    shown = {}
    for path in sorted(
        (directory / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns
    ):
        for event in read_events(path):
            if event.HasField("session_log"):
                shown = {n: [e for e in found if e[0] < event.step] for n, found in shown.items()}
            for value in event.summary.value:
                shown.setdefault(value.tag, []).append((event.step, value.simple_value))
    return shown


def read_events(path):
    content, events = path.read_bytes(), []
    while content:  # length, its checksum, event, its checksum
        (length,) = struct.unpack("Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events


def test_steps_are_traced(tmp_path):
    run(tmp_path, replace(CONFIG, profile=(3, 4)))
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_an_implicit_transfer_in_a_step_is_an_error(tmp_path):
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        run(tmp_path, target=1.0)


def test_no_validation_images(tmp_path):
    with pytest.raises(ValueError, match="validation: got no images"):
        run(tmp_path, validation=[])


@pytest.mark.parametrize("fit_model", [fit_trunk, fit_tokenizer, fit_with_all])
def test_models_resume_to_the_same_bits(tmp_path, fit_model):
    unbroken = fit_model(tmp_path / "unbroken")
    with pytest.raises(Killed):
        fit_model(tmp_path / "ended", batches=killed_after(4))
    resumed = fit_model(tmp_path / "ended")
    check_equal(resumed, unbroken)
    assert [row["step"] for row in resumed.history] == [1, 2, 3, 4, 5, 6]


def test_a_resumed_run_does_not_compile_again(tmp_path):
    run(tmp_path, total_steps=5)
    compiled = train_step._cache_size()
    run(tmp_path)
    assert train_step._cache_size() == compiled
