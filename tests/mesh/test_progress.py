"""Progress of a task: lines in a log, a bar on a terminal."""

import io
import sys
import time

import jax
import pytest

from mvar_jax.mesh.progress import PAUSE, TaskProgress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Stands for the monotonic clock; a test sets its seconds."""

    seconds = 0.0


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.seconds)
    return clock


@pytest.fixture
def show(monkeypatch):
    """Makes a stream stderr; within the test, since pytest sets its own before."""

    def show(stream):
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return show


def test_lines_show_what_is_done_and_the_time_left(show, clock):
    log = show(io.StringIO())
    with TaskProgress("measure", 4, "pass") as progress:
        for done in (1, 2, 4):
            clock.seconds = done * PAUSE
            progress.reach(done)
    assert log.getvalue().splitlines() == [
        "measure: pass 1/4 (00:30 left)",
        "measure: pass 2/4 (00:20 left)",
        "measure: pass 4/4 (00:00 left)",
    ]


def test_a_log_gets_the_first_and_the_last_line_and_few_between(show, clock):
    log = show(io.StringIO())
    progress = TaskProgress("draw", 100, "image")
    for done in range(1, 101):
        clock.seconds = done * PAUSE / 40
        progress.reach(done)
    counts = [line.split()[2] for line in log.getvalue().splitlines()]
    assert counts == ["1/100", "41/100", "81/100", "100/100"]


def test_the_time_left_is_estimated_from_the_pace_since_the_start(show, clock):
    log = show(io.StringIO())
    progress = TaskProgress("tokenize", 1_281_167, "image", done=1_000_000)
    clock.seconds = 10.0
    progress.advance(10_000)
    assert log.getvalue() == "tokenize: image 1.01M/1.28M (04:31 left)\n"


def test_bar_on_a_terminal(show):
    terminal = show(Terminal())
    progress = TaskProgress("draw", 4, "image")
    for _ in range(4):
        progress.advance()
    text = terminal.getvalue()
    assert "4.00/4.00" in text and text.endswith("\n")  # closed by itself when all is done
    progress.close()
    assert terminal.getvalue() == text


def test_a_bar_ends_with_its_block(show):
    terminal = show(Terminal())
    with pytest.raises(KeyError), TaskProgress("draw", 4, "image", done=1) as progress:
        progress.advance()
        raise KeyError
    assert "2.00/4.00" in terminal.getvalue() and terminal.getvalue().endswith("\n")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_other_processes_are_silent(show, monkeypatch, stream):
    shown = show(stream())
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with TaskProgress("draw", 2, "image") as progress:
        progress.reach(2)
    assert shown.getvalue() == ""
