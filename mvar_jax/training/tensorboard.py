"""TensorBoard's event files, written immediately: nothing is queued, and errors are raised."""

import os
import time
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from mvar_jax.training.metrics import Row


class TensorBoard:
    """Writes scalars and pictures to a new event file in a directory.

    The file starts after `step`: TensorBoard ignores later steps in older files. tensorboardX's own
    `SummaryWriter` queues events for a thread, in which the error of a full disk is lost.
    """

    def __init__(self, directory: Path, step: int):
        directory.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(directory / "events"), f".{os.getpid()}.{step}")
        self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, row: Row) -> None:
        """Adds every number of a row under its name, at the row's step."""
        for name, value in row.items():
            if name != "step" and value is not None:
                self._write(Event(step=row["step"], summary=summary.scalar(name, value)))
        self._writer.flush()

    def picture(self, name: str, step: int, pixels: np.ndarray) -> None:
        """Adds a picture, uint8 [height, width, 3]."""
        self._write(Event(step=step, summary=summary.image(name, pixels, dataformats="HWC")))
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
