"""Programs whose paths are in a bucket."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mvar_jax.files import BucketPath, names_below, read_grown
from mvar_jax.training.lock import NAME, RunLock
from mvar_jax.workdir import stored_steps
from tests.test_killed_runs import Runs, check_killed
from tests.tiny_run import save_run

STEPS = 50


class BucketRuns(Runs):
    """Runs in a bucket, watched from outside."""

    def __init__(self, bucket: BucketPath, home: Path, data: str):
        super().__init__(bucket / "run", STEPS, data)
        self._home = home

    @property
    def home(self) -> Path:
        return self._home

    def written(self) -> tuple[int, int]:
        """How many parts of the log there are, and which is the last."""
        time.sleep(0.02)  # not all requests that the server answers are to be ours
        parts = names_below(self.folder / "metrics.jsonl.parts")
        return len(parts), int(max(parts, default="0"))

    def unfinished(self) -> list[str]:
        """What a save in progress, or one that was killed, has written."""
        found = {name.split("/")[0] for name in names_below(self.folder / "checkpoints")}
        return sorted(found - set(map(str, stored_steps(self.folder / "checkpoints"))))

    def rows(self) -> int:
        return len(read_grown(self.folder / "metrics.jsonl").splitlines())

    def checksum(self) -> str:
        assert names_below(self.folder / "metrics.jsonl.parts") == []
        return super().checksum()


@pytest.mark.slow
def test_killed_in_a_bucket_to_the_bits_of_a_disk(bucket, tmp_path, digits_directory):
    killed = BucketRuns(bucket, tmp_path, digits_directory)
    with RunLock(bucket / "run"):
        second = killed.start()
        said = second.communicate()[1]
    assert second.returncode == 2
    assert said.splitlines()[-1].startswith(f"error: {bucket}/run: another run writes here (host ")
    assert f"process {os.getpid()})" in said
    unbroken = Runs(tmp_path / "unbroken", STEPS, digits_directory)
    check_killed(unbroken, killed, ["in_save", "after_rows", "in_save", "before_rows", "in_save"])
    assert NAME not in names_below(bucket / "run")
    assert len(stored_steps(bucket / "run" / "checkpoints")) > 0


@pytest.mark.slow
def test_programs_read_and_write_in_a_bucket(bucket, tmp_path, storage):
    """The same bytes as on a disk, whichever of the two is in the bucket."""
    local, stored = save_run(tmp_path / "run"), save_run(f"{bucket}/run")

    def program(line, status=0):
        command = [sys.executable, "-m", *f"mvar_jax.{line}".split()]
        result = subprocess.run(
            command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
        )
        assert result.returncode == status, result.stderr
        return result

    sample = "--labels=cat,fox --columns=2 --seed=3"
    program(f"sample --workdir={local.path} {sample} --out=grid.png")
    program(f"sample --workdir={stored.path} {sample} --out={bucket}/grid.png")
    assert (bucket / "grid.png").read_bytes() == (tmp_path / "grid.png").read_bytes()
    program(f"sample --workdir={stored.path} {sample} --out={bucket}/images/")
    assert len(names_below(bucket / "images")) == 4
    program(f"convert export --for=sampling --workdir={stored.path} --out={bucket}/small")
    share = f"share --workdir={bucket}/small --repo=me/tiny --license=mit --out={bucket}/shared"
    program(share)
    for folder in ("small", "shared"):
        program(f"sample --workdir={bucket}/{folder} {sample} --out={folder}.png --verify")
        assert (tmp_path / f"{folder}.png").read_bytes() == (tmp_path / "grid.png").read_bytes()
    said = program(share, status=2).stderr
    assert said == f"error: --out: {bucket}/shared is there already; name a new folder.\n"
    said = program(f"sample --workdir={bucket}/none {sample} --out=a.png", status=2).stderr
    assert f"{bucket}/none: holds no config.json" in said
    said = program(
        f"sample --workdir={stored.path} {sample} --out=gs://none/a.png", status=2
    ).stderr
    assert said == "error: gs://none: there is no such bucket; check its name, or create it.\n"
