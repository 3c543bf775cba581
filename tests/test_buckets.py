"""Programs whose paths are in a bucket."""

import time
from pathlib import Path

import pytest

from mvar_jax.files import BucketPath, names_below, read_grown
from mvar_jax.training.lock import NAME
from mvar_jax.workdir import stored_steps
from tests.test_killed_runs import Runs, check_killed

STEPS = 40


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
    first = killed.start()
    while not killed.rows():
        assert first.poll() is None, first.communicate()[1]
    second = killed.start()
    said = second.communicate()[1]
    assert second.returncode == 2
    assert said.splitlines()[-1].startswith(f"error: {bucket}/run: another run writes here (host ")
    assert f"process {first.pid})" in said
    first.kill()
    first.wait()
    unbroken = Runs(tmp_path / "unbroken", STEPS, digits_directory)
    check_killed(unbroken, killed, ["in_save", "after_rows", "in_save", "before_rows", "in_save"])
    assert NAME not in names_below(bucket / "run")
    assert len(stored_steps(bucket / "run" / "checkpoints")) > 0
