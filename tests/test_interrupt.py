"""Ctrl-C ends a program at once, in every phase, with no traceback."""

import os
import signal
import subprocess
import sys
import time

import pytest

# What a program does before it says that it has begun, and when the signal comes.
PHASES = {
    "waiting": ("", "time.sleep(60)"),
    "computing": ("", "while True: jax.numpy.ones((500, 500)) @ jax.numpy.ones((500, 500))"),
    "compiling": ("lowered = jax.jit(slow).lower(1.0)", "lowered.compile()"),
}
PROGRAM = """
import sys, time
import jax
from mvar_jax import cli

def slow(x):  # to compile, which takes seconds
    for i in range(8000):
        x = jax.numpy.sin(x) + i
    return x

def main():
    BEFORE
    print("begun", flush=True)
    print("not flushed", end="")
    PHASE

cli.run(main)
"""


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_ends_every_phase_at_once(phase):
    before, then = PHASES[phase]
    program = PROGRAM.replace("BEFORE", before).replace("PHASE", then)
    process = start([sys.executable, "-c", program])
    while process.stdout.readline() != "begun\n":
        pass
    time.sleep(1)  # until it is in the midst of it
    assert interrupted(process) == (130, "not flushed", "\nstopped\n")


def test_ctrl_c_while_a_program_is_imported():
    process = start([sys.executable, "-m", "mvar_jax.sample"])
    time.sleep(0.3)  # Python has started, JAX is not yet imported
    code, _, said = interrupted(process)
    assert code == 130 and said in ("", "\nstopped\n")


def start(command):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "JAX_COMPILATION_CACHE_DIR": ""},
    )


def interrupted(process):
    """Exit code, and what was said; the process has two seconds to end."""
    process.send_signal(signal.SIGINT)
    try:
        out, said = process.communicate(timeout=2)
    finally:
        process.kill()
    return process.returncode, out, said
