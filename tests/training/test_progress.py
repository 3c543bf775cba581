"""Progress: lines where there is no terminal, a bar where there is one."""

import io
import sys
from types import SimpleNamespace

import pytest

from mvar_jax.training import progress
from mvar_jax.training.progress import Progress
from mvar_jax.training.stopwatch import Stopwatch


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def run(monkeypatch):
    return lambda stream, first=0: show(monkeypatch, stream, first)


def show(monkeypatch, stream, first, total=4):
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress("trunk", first, total, clock=Stopwatch()) as progress:
        for step in range(first + 1, total + 1):
            progress.advance()
            if step % 2 == 0:
                progress.report({"step": step, "loss": 1.25, "gradient_norm": 3.0})
    return stream.getvalue()


def test_lines_show_step_loss_and_time_left(run):
    lines = run(io.StringIO()).splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        "trunk: step 2/4, loss 1.25",
        "trunk: step 4/4, loss 1.25",
    ]
    assert lines[-1].endswith(" (00:00 left)")


def test_seconds_and_images_are_of_the_same_steps(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    now = iter([0.0, 15.0, 30.0])  # half of it validates
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(now)))
    with Progress("trunk", 0, 200, clock=Stopwatch(lambda: 0.0)) as shown:
        for _ in range(100):
            shown.advance()
        shown.report({"step": 100, "images_per_second": 80.0, "step_seconds": 0.1})
        shown.report({"step": 100, "loss": 1.0})
    first, second = stream.getvalue().splitlines()
    assert first == "trunk: step 100/200, images_per_second 80 (0.1 s a step, 00:15 left)"
    assert second == "trunk: step 100/200, loss 1 (00:30 left)"


def test_bar_on_a_terminal(run):
    text = run(Terminal())
    assert "4/4" in text and "loss=1.25" in text
    assert "\n" not in text.rstrip("\n")


def test_says_where_a_run_resumes(run):
    assert "trunk: resuming at step 2 of 4" in run(io.StringIO(), first=2)


def test_says_that_a_run_is_finished(run):
    assert run(io.StringIO(), first=4) == "trunk: finished at step 4 of 4, nothing to do\n"
