"""TensorBoard's event files, written immediately: nothing is queued, and errors are raised."""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from mvar_jax.files import BucketPath, publish
from mvar_jax.training.metrics import Row


class TensorBoard:
    """Writes scalars and pictures to a new event file in a directory.

    The file starts after `step`: TensorBoard ignores later steps in older files. tensorboardX's own
    `SummaryWriter` queues events for a thread, in which the error of a full disk is lost. In a
    bucket, where files do not grow, every flush ends a file, and begins the next.
    """

    def __init__(self, directory: Path, step: int):
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._step, self._begun = directory, step, 0
        self._drafts = tempfile.TemporaryDirectory() if isinstance(directory, BucketPath) else None
        self._begin()
        self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, row: Row) -> None:
        """Adds every number of a row under its name, at the row's step."""
        for name, value in row.items():
            if name != "step" and value is not None:
                self._write(Event(step=row["step"], summary=summary.scalar(name, value)))
        self._flush()

    def picture(self, name: str, step: int, pixels: np.ndarray) -> None:
        """Adds a picture, uint8 [height, width, 3]."""
        self._write(Event(step=step, summary=summary.image(name, pixels, dataformats="HWC")))
        self._flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()
        if self._drafts is not None:
            self._drafts.cleanup()

    def _begin(self) -> None:
        """Begins a file."""
        place, suffix = self._directory, f".{os.getpid()}.{self._step}"
        if self._drafts is not None:
            place, suffix = Path(self._drafts.name), f"{suffix}.{self._begun:06d}"
            self._begun += 1
        self._writer = EventsWriter(str(place / "events"), suffix)

    def _flush(self) -> None:
        self._writer.flush()
        if self._drafts is not None:
            self._writer.close()
            for file in Path(self._drafts.name).iterdir():
                publish(file, self._directory / file.name)
                file.unlink()
            self._begin()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
