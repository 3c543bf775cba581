"""What all programs share: compiled programs are kept where the flags say, and found again."""

import os
import subprocess
import sys

import pytest

from tests.shared import quick_flags

COUNT = """
import jax, runpy, sys

counts = {"requests": 0, "hits": 0}
EVENTS = {"compile_requests_use_cache": "requests", "cache_hits": "hits"}

def count(event, **_):
    folder, _, name = event.rpartition("/")
    if folder == "/jax/compilation_cache" and name in EVENTS:
        counts[EVENTS[name]] += 1

jax.monitoring.register_event_listener(count)
"""
PROGRAM = """
from mvar_jax import cli

def main():
    jax.jit(lambda x: x @ x)(jax.numpy.ones((3, 3))).block_until_ready()
    print(counts["requests"], counts["hits"])

cli.run(main, cli.define_distributed)
"""
TIMED = PROGRAM.replace("distributed)", "distributed, times_compilation=True)")
SAMPLE = """
sys.argv[0] = "sample"
runpy.run_module("mvar_jax.sample", run_name="__main__")
print(counts["requests"], counts["hits"])
"""


@pytest.fixture
def start(tmp_path):
    """Runs a script in a home of its own; returns programs asked for, those found, and stderr."""

    def start(script, *arguments, **variables):
        command = [sys.executable, "-c", COUNT + script, *map(str, arguments)]
        environment = {name: value for name, value in os.environ.items() if "CACHE" not in name}
        environment |= {"HOME": str(tmp_path / "home"), "XLA_FLAGS": quick_flags()} | variables
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        requests, hits = map(int, result.stdout.splitlines()[-1].split())
        return requests, hits, result.stderr

    return start


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("where", ["home", "XDG_CACHE_HOME", "flag"])
def test_a_second_start_finds_every_program(start, tmp_path, where):
    arguments, variables = (), {}
    folder = tmp_path / "home" / ".cache" / "mvar_jax" / "compiled"
    if where == "XDG_CACHE_HOME":
        folder = tmp_path / "xdg" / "mvar_jax" / "compiled"
        variables = {where: str(tmp_path / "xdg")}
    if where == "flag":
        folder = tmp_path / "named"
        arguments = (f"--compilation_cache={folder}",)
    requests, hits, said = start(PROGRAM, *arguments, **variables)
    assert requests > hits == 0 and not said
    kept = names(folder)
    assert start(PROGRAM, *arguments, **variables)[:2] == (requests, requests)
    assert names(folder) == kept


SEVERAL = ("--coordinator=localhost:1", "--num_processes=2", "--process_id=0")


@pytest.mark.parametrize(
    "program",
    [(PROGRAM, "--compilation_cache="), (TIMED,), (PROGRAM, *SEVERAL)],
    ids=["off", "timed", "several"],
)
def test_nothing_is_kept_where_it_is_not_wanted(start, tmp_path, program):
    _, hits, said = start(*program)
    assert hits == 0 and not said
    assert not (tmp_path / "home").exists()


def test_a_folder_that_jax_was_given_comes_before_the_default(start, tmp_path):
    given = tmp_path / "given"
    settings = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    start(PROGRAM, JAX_COMPILATION_CACHE_DIR=str(given), **settings)
    assert names(given) and not (tmp_path / "home").exists()


def test_a_folder_that_cannot_be_written_costs_a_warning(start, tmp_path):
    (tmp_path / "home").touch()
    _, hits, said = start(PROGRAM)
    assert hits == 0
    assert said.startswith("warning: compiled programs are not kept (") and said.count("\n") == 1


def test_a_second_picture_of_the_same_shape_compiles_nothing(start, trained, tmp_path):
    arguments = (f"--workdir={trained}", "--labels=3", "--columns=1")
    requests, hits, _ = start(SAMPLE, *arguments, f"--out={tmp_path / 'first.png'}")
    assert requests > hits == 0
    requests, hits, _ = start(SAMPLE, *arguments, "--seed=1", f"--out={tmp_path / 'second.png'}")
    assert requests == hits > 0


PRINTS = """
from mvar_jax import cli

def main():
    for _ in range(LINES):
        print("Käuzchen 梟")

cli.run(main)
"""


def test_a_reader_that_has_gone_ends_a_program_quietly():
    for lines in ("1", "100_000"):
        process = subprocess.Popen(
            [sys.executable, "-c", PRINTS.replace("LINES", lines)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        )
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_names_that_a_terminal_cannot_show_are_printed_in_ascii():
    result = subprocess.run(
        [sys.executable, "-c", PRINTS.replace("LINES", "1")],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert result.stdout == b"K\\xe4uzchen \\u689f\n"
