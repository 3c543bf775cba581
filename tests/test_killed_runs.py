"""Training that is killed or stopped at any moment and run again gives the same bits."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.shared import quick_flags

SMALL = {
    "batch_size": 8,
    "tokenizer.base_channels": 16,
    "model.depth": 1,
    "model.width": 16,
    "model.ssm.head_dim": 16,
    "model.ssm.state_size": 8,
}
TRAINING = {"log_every": 1, "save_every": 2, "validate_every": 10, "validation_batches": 1}
# Of the trunk, or of the tokenizer: the program, the group of its settings, and its folder.
TRUNK, TOKENIZER = (
    ("train", "training", "."),
    ("train_tokenizer", "tokenizer_training", "tokenizer"),
)
POLL = 0.002  # seconds


class Runs:
    """Runs of one small training in a working directory, by a seeded choice of when to kill."""

    def __init__(self, workdir: Path, steps: int, data: str, *flags: str, of: tuple = TRUNK):
        main, group, folder = of
        self.workdir, self._random = workdir, random.Random(0)
        self.folder = workdir if folder == "." else workdir / folder
        own = {f"{group}.{name}": value for name, value in {**TRAINING, "steps": steps}.items()}
        overrides = [f"--config.{name}={value}" for name, value in {**SMALL, **own}.items()]
        program = [sys.executable, "-m", f"mvar_jax.{main}", "--config=digits.py:runlocal"]
        self._command = [*program, f"--workdir={workdir}", *overrides, *flags]
        own = {"XLA_FLAGS": quick_flags(), "TFDS_DATA_DIR": data}
        self._environment = {**os.environ, **own}

    @property
    def home(self) -> Path:
        """The folder that the program is run in."""
        return self.workdir.parent

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(
            self._command,
            cwd=self.home,
            env=self._environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    def finish(self) -> str:
        """Runs to the end; returns what was said."""
        process = self.start()
        said = process.communicate()[1]
        assert process.returncode == 0, said
        return said

    def kill_after_rows(self) -> str:
        """Kills a run at a random moment after some steps."""
        process = self._after_rows()
        return self._kill(process, self._random.uniform(0, 0.2))

    def kill_in_save(self) -> str:
        """Kills a run while a checkpoint is being written, or just after."""
        process = self._after_rows()
        while process.poll() is None and not self.unfinished():
            time.sleep(POLL)
        return self._kill(process, self._random.uniform(0, 0.1))

    def kill_before_rows(self) -> str:
        """Kills a run while it starts, restores or compiles."""
        process, began = self.start(), self.written()
        while process.poll() is None and self.written() == began and not self.unfinished():
            if self._random.random() < 0.001:
                break
            time.sleep(POLL)
        return self._kill(process, 0)

    def stop(self) -> str:
        """Asks a run to stop after some steps; returns what was said."""
        process = self._after_rows()
        process.send_signal(signal.SIGTERM)
        said = process.communicate()[1]
        assert process.returncode == 0, said
        return said.splitlines()[-1]

    def written(self) -> tuple[int, int]:
        """Size and time of the log, which every step changes."""
        log = self.folder / "metrics.jsonl"
        return (log.stat().st_size, log.stat().st_mtime_ns) if log.exists() else (0, 0)

    def unfinished(self) -> list[str]:
        """What a save in progress, or one that was killed, has written."""
        return [path.name for path in (self.folder / "checkpoints").glob("*tmp*")]

    def rows(self) -> int:
        log = self.folder / "metrics.jsonl"
        return len(log.read_bytes().splitlines()) if log.exists() else 0

    def checksum(self) -> str:
        return hashlib.sha256((self.folder / "metrics.jsonl").read_bytes()).hexdigest()

    def damaged(self) -> list[str]:
        return [path.name for path in (self.folder / "checkpoints").glob("*.damaged*")]

    def _after_rows(self) -> subprocess.Popen:
        process, changes, last = self.start(), self._random.randint(2, 5), self.written()
        while process.poll() is None and changes:
            if self.written() != last:
                last, changes = self.written(), changes - 1
            time.sleep(POLL)
        return process

    def _kill(self, process: subprocess.Popen, seconds: float) -> str:
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        said = process.communicate()[1]
        assert process.returncode == -signal.SIGKILL, (
            f"ended by itself before it was killed: {said}"
        )
        return f"{self.rows()} rows, unfinished {self.unfinished()}"


def check_killed_runs(
    folder: Path, data: str, kinds: list[str], steps: int, *flags: str, of: tuple = TRUNK
) -> None:
    killed = Runs(folder / "killed", steps, data, *flags, of=of)
    check_killed(Runs(folder / "unbroken", steps, data, *flags, of=of), killed, kinds)


def check_killed(unbroken: Runs, killed: Runs, kinds: list[str]) -> None:
    unbroken.finish()
    for number, kind in enumerate(kinds, start=1):
        print(f"kill {number}, {kind}: {getattr(killed, f'kill_{kind}')()}", flush=True)
    said = killed.stop()
    assert "asked to stop, saved step" in said
    print(said)
    print(killed.finish().splitlines()[0])
    print(f"never killed       {unbroken.checksum()}")
    print(f"killed {len(kinds):2} times    {killed.checksum()}")
    assert killed.checksum() == unbroken.checksum()
    assert not killed.damaged()


def test_killed_and_stopped_to_the_same_bits(tmp_path, digits_directory):
    check_killed_runs(tmp_path, digits_directory, ["in_save"], steps=20)


@pytest.mark.slow
def test_killed_often_to_the_same_bits(tmp_path, digits_directory):
    kinds = ["in_save", "after_rows", "in_save", "before_rows"] * 5
    check_killed_runs(tmp_path, digits_directory, kinds, steps=160)


@pytest.mark.slow
def test_an_adapter_is_killed_to_the_same_bits(tmp_path, digits_directory):
    base = Runs(tmp_path / "base", 4, digits_directory)
    base.finish()
    flags = ("--config.adapter.rank=2", f"--base={base.workdir}")
    kinds = ["in_save", "after_rows", "before_rows"]
    check_killed_runs(tmp_path, digits_directory, kinds, 60, *flags)


@pytest.mark.slow
def test_a_tokenizer_with_a_discriminator_is_killed_to_the_same_bits(tmp_path, digits_directory):
    """Before the discriminator starts and after, with codes that restart and dropped scales."""
    settings = {
        "tokenizer_loss.adversarial": 0.4,
        "tokenizer_loss.adversarial_start": 0.2,
        "tokenizer_loss.lecam": 0.05,
        "tokenizer_loss.diffaug": True,
        "tokenizer_loss.discriminator_channels": 4,
        "tokenizer_loss.discriminator_layers": 1,
        "codebook.restart_below": 0.5,
        "codebook.restart_window": 4,
        "codebook.dropout_rate": 0.3,
        "codebook.dropout_from": 1,
    }
    flags = [f"--config.{name}={value}" for name, value in settings.items()]
    kinds = ["after_rows", "in_save", "before_rows", "after_rows", "in_save"]
    check_killed_runs(tmp_path, digits_directory, kinds, 80, *flags, of=TOKENIZER)
    rows = (tmp_path / "killed" / "tokenizer" / "metrics.jsonl").read_text().splitlines()
    assert "discriminator_loss" in rows[-1] and "discriminator_loss" not in rows[0]
    assert '"restarted": 0' not in rows[-1]
