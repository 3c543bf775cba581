"""Preemption: what the first and the second SIGTERM do."""

import os
import signal
import subprocess
import sys

import pytest

from mvar_jax.training.preemption import Preempted, Preemption


def ask():
    os.kill(os.getpid(), signal.SIGTERM)


def test_one_sigterm_is_recorded():
    with pytest.raises(Preempted), Preemption() as preemption:
        assert not preemption.reached(1)
        ask()
        assert preemption.reached(2) and preemption.reached(3)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_error_is_not_hidden():
    with pytest.raises(KeyError), Preemption():
        ask()
        raise KeyError


SCRIPT = """
import os, signal
from mvar_jax.training.preemption import Preemption
with Preemption() as preemption:
    os.kill(os.getpid(), signal.SIGTERM)
    print("asked" if preemption.reached(1) else "", flush=True)
    {more}
"""


@pytest.mark.parametrize(
    ("more", "code"), [("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM), ("pass", 0)]
)
def test_a_second_sigterm_kills_the_process(more, code):
    program = [sys.executable, "-c", SCRIPT.format(more=more)]
    result = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (code, "asked\n"), result.stderr
