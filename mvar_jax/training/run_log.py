"""What a run writes about itself while it trains."""

from pathlib import Path

import jax
import numpy as np

from mvar_jax.training.metrics import MetricsLog, Row
from mvar_jax.training.tensorboard import TensorBoard
from mvar_jax.training.weights_and_biases import WeightsAndBiases


class RunLog:
    """`metrics.jsonl`, `throughput.jsonl` and `tensorboard/` of a run. Use it in a `with` block.

    Numbers of the training itself go to the first, which is the same for the same run wherever
    and however often interrupted it is made; numbers of the machine to the second; all of them,
    and pictures, to TensorBoard, and to a `project` on Weights & Biases if one is named. What an
    earlier run wrote of steps after `step` is dropped. Only the first process writes.
    """

    def __init__(self, directory: Path, step: int, project: str = ""):
        writes = jax.process_index() == 0
        self._metrics = MetricsLog(directory / "metrics.jsonl", step, writes)
        self._throughput = MetricsLog(directory / "throughput.jsonl", step, writes)
        self._boards: list[TensorBoard | WeightsAndBiases] = []
        if writes:
            self._boards.append(TensorBoard(directory / "tensorboard", step))
        if writes and project:
            self._boards.append(WeightsAndBiases(project, directory))

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_) -> None:
        for board in self._boards:
            board.close()

    @property
    def rows(self) -> list[Row]:
        """All rows of the metrics, those of earlier runs too."""
        return self._metrics.rows

    def append(self, metrics: Row, throughput: Row) -> None:
        """Adds numbers of the training, and of the machine, at the same step."""
        for log, row in ((self._metrics, metrics), (self._throughput, throughput)):
            log.append(row)
            for board in self._boards:
                board.scalars(row)

    def picture(self, step: int, pixels: np.ndarray) -> None:
        """Shows a picture, uint8 [height, width, 3], on the boards."""
        for board in self._boards:
            board.picture("samples", step, pixels)
