"""Runs on Weights & Biases, of which a module that notes what it is told takes the place."""

import importlib.machinery
import sys
import types
from dataclasses import replace

import numpy as np
import pytest

from tests.training.test_loop import CONFIG, events, run

WANDB = replace(CONFIG, wandb="digits", sample_every=4)


class FakeRun:
    def __init__(self, settings):
        self.settings, self.rows, self.metrics, self.finished = settings, [], [], False

    def define_metric(self, name, step_metric):
        self.metrics.append((name, step_metric))

    def log(self, row):
        assert not self.finished
        self.rows.append(row)

    def finish(self):
        self.finished = True


@pytest.fixture
def runs(monkeypatch):
    """The runs that the package was asked for."""
    module, runs = types.ModuleType("wandb"), []
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None)

    def init(**settings):
        runs.append(FakeRun(settings))
        return runs[-1]

    module.init, module.Image = init, lambda pixels: ("picture", pixels.shape)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return runs


def draw(state, path):
    return np.zeros((2, 3, 3), np.uint8)


def test_a_run_is_shown_with_its_rows_and_pictures(runs, tmp_path):
    outcome = run(tmp_path / "runs" / "toy", WANDB, draw=draw)
    (shown,) = runs
    assert shown.settings["project"] == "digits" and shown.settings["name"] == "runs/toy"
    assert shown.metrics == [("*", "step")] and shown.finished
    assert [row for row in shown.rows if "loss" in row] == outcome.history
    assert {"images_per_second", "step_seconds"} <= set().union(*shown.rows)
    pictures = [row for row in shown.rows if "samples" in row]
    assert pictures == [{"samples": ("picture", (2, 3, 3)), "step": step} for step in (4, 8, 10)]
    assert "loss" in events(tmp_path / "runs" / "toy")


def test_a_run_that_resumes_goes_on_there(runs, tmp_path):
    run(tmp_path, WANDB, total_steps=5)
    run(tmp_path, WANDB)
    first, second = (shown.settings for shown in runs)
    assert first == second and first["resume"] == "allow" and len(first["id"]) == 32
    assert [row["step"] for row in runs[1].rows if "loss" in row] == [6, 8, 9, 10]


def test_nothing_is_sent_unless_a_project_is_named(runs, tmp_path):
    run(tmp_path)
    assert not runs and not (tmp_path / "wandb.id").exists()


def test_a_missing_package_is_said_before_anything_is_written(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"training.wandb: got 'digits', but .* -e '.\[wandb\]'"):
        run(tmp_path, WANDB)
    assert not list(tmp_path.iterdir())


def test_a_run_that_cannot_be_started_is_said_in_one_sentence(runs, monkeypatch, tmp_path):
    def refuse(**_):
        raise RuntimeError("api_key not configured (no-tty)\ncall wandb login")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    sentence = r"cannot start a run in 'digits' \(api_key not configured \(no-tty\)\); log in"
    with pytest.raises(ValueError, match=sentence) as refused:
        run(tmp_path, WANDB)
    assert "\n" not in str(refused.value)
