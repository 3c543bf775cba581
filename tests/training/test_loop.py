"""The loop: what it writes and when, how it resumes, how it stops."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mvar_jax.config import TrainingConfig
from mvar_jax.training.loop import fit
from mvar_jax.training.state import apply_gradients, create_state
from tests.training.tiny import dataset, eval_batches, fit_tokenizer, fit_trunk, train_batches

CONFIG = TrainingConfig(
    steps=10, log_every=3, validate_every=4, validation_batches=2, save_every=5, ema_decay=0.9
)
ADAM = optax.adam(0.01)


@functools.partial(jax.jit, donate_argnums=0)
def train_step(state, batch, target):
    """Moves a number towards the mean pixel, with noise of the step."""
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), state.step))

    def loss(params):
        return (params["w"] - jnp.mean(batch["image"]) - 0.1 * noise - target) ** 2

    value, gradients = jax.value_and_grad(loss)(state.params)
    norm = optax.global_norm(gradients)
    return apply_gradients(state, gradients, ADAM, 0.9), {"loss": value, "gradient_norm": norm}


@jax.jit
def evaluate(state, batch, target):
    return {"loss": jnp.mean((state.sampling_params["w"] - batch["image"] - target) ** 2)}


def run(directory, config=CONFIG, total_steps=10, batches=None, target=1.0):
    return fit(
        "toy",
        create_state({"w": jnp.array(0.0)}, ADAM, config.ema_decay),
        train_step,
        evaluate,
        train_batches() if batches is None else batches,
        eval_batches(),
        config,
        total_steps,
        directory,
        (jnp.float32(target),),
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


class Killed(Exception):
    """Stands for the end of a process."""


def killed_after(count):
    """The training data of a process that is ended when it has read `count` batches."""
    seen = iter(range(count))

    def read(batch):
        if next(seen, None) is None:
            raise Killed
        return batch

    return dataset().to_iter_dataset().batch(4).map(read)


@pytest.mark.parametrize("end", [1, 5, 7, 9])
def test_a_run_that_was_ended_resumes_to_the_same_bits(tmp_path, end, capfd):
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


def test_more_steps_go_on_from_where_a_run_finished(tmp_path):
    run(tmp_path / "longer")
    longer = run(tmp_path / "longer", total_steps=12)
    assert [row["step"] for row in longer.history] == [3, 4, 5, 6, 8, 9, 10, 12]


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_nothing(tmp_path):
    run(tmp_path, total_steps=5)
    with pytest.raises(ValueError, match="toy: at step 6 the loss is nan and the gradient norm"):
        run(tmp_path, target=float("nan"))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["5"]
    assert [row["step"] for row in rows(tmp_path)] == [3, 4, 5]


def test_a_damaged_checkpoint_stops_the_run_and_stays(tmp_path):
    run(tmp_path, total_steps=5)
    log = (tmp_path / "metrics.jsonl").read_text()
    shutil.rmtree(tmp_path / "checkpoints" / "5" / "optimizer")
    with pytest.raises(ValueError, match="/checkpoints/5: this checkpoint is damaged"):
        run(tmp_path)
    assert (tmp_path / "checkpoints" / "5" / "params").is_dir()
    assert (tmp_path / "metrics.jsonl").read_text() == log


def test_no_validation_images(tmp_path):
    with pytest.raises(ValueError, match="validation: got no images"):
        fit_tokenizer(tmp_path, validation=[])


@pytest.mark.parametrize("fit_model", [fit_trunk, fit_tokenizer])
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
