"""The logs that a run writes while it trains."""

from pathlib import Path

import jax
import numpy as np

from mvar_jax.training.metrics import MetricsLog, Row
from mvar_jax.training.tensorboard import TensorBoard
from mvar_jax.training.weights_and_biases import WeightsAndBiases


class RunLog:
    """`metrics.jsonl`, `throughput.jsonl` and `tensorboard/` of a run. Use it in a `with` block.

    Metrics of the training go to the first file, which is the same for the same config, on any
    machine and however often the run was interrupted. Measurements of the machine go to the second.
    All of them, and pictures, go to TensorBoard, and to a `project` on Weights & Biases if one is
    named. Rows of steps after `step` are dropped. A run that has `ended` logs nothing
    more. Only process 0 writes.
    """

    def __init__(self, directory: Path, step: int, project: str = "", *, ended: bool = False):
        writes = jax.process_index() == 0
        self._metrics = MetricsLog(directory / "metrics.jsonl", step, writes)
        self._throughput = MetricsLog(directory / "throughput.jsonl", step, writes)
        self._boards: list[TensorBoard | WeightsAndBiases] = []
        if writes and not ended:
            self._boards.append(TensorBoard(directory / "tensorboard", step))
        if writes and not ended and project:
            self._boards.append(WeightsAndBiases(project, directory))

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_) -> None:
        for log in (self._metrics, self._throughput, *self._boards):
            log.close()

    @property
    def rows(self) -> list[Row]:
        """All rows of the metrics, including those before the run was resumed."""
        return self._metrics.rows

    def append(self, metrics: Row, throughput: Row) -> None:
        """Logs metrics of the training and measurements of the machine at the same step."""
        for log, row in ((self._metrics, metrics), (self._throughput, throughput)):
            log.append(row)
            for board in self._boards:
                board.scalars(row)

    def picture(self, step: int, pixels: np.ndarray) -> None:
        """Logs a picture, uint8 [height, width, 3], to the boards."""
        for board in self._boards:
            board.picture("samples", step, pixels)
