"""A run on Weights & Biases, for those who name a project there and have the package."""

import importlib
import importlib.util
import tempfile
import uuid
from pathlib import Path

import numpy as np

from mvar_jax.checks import check, first_line, install_command
from mvar_jax.files import BucketPath, write_text
from mvar_jax.training.metrics import Row


def check_installed(project: str) -> None:
    """Raises ValueError where a project is named and the package is missing."""
    check(
        not project or importlib.util.find_spec("wandb") is not None,
        f"training.wandb: got {project!r}, but the package wandb is not installed; install it "
        f"by {install_command('wandb')}, or leave the setting empty.",
    )


class WeightsAndBiases:
    """Sends scalars and pictures to one run of a project, which later starts go on with.

    The run is known by the file `wandb.id` in the directory. What is made again after an
    interruption is sent again, with the same numbers at the same steps. Raises ValueError where
    the run cannot be started.
    """

    def __init__(self, project: str, directory: Path):
        self._wandb = importlib.import_module("wandb")
        try:
            self._run = self._wandb.init(
                project=project,
                name="/".join(directory.absolute().parts[-2:]),
                dir=_place(directory),
                id=_identity(directory / "wandb.id"),
                resume="allow",
            )
        except Exception as error:  # of the network, of the account, or of its own settings
            raise ValueError(
                f"training.wandb: cannot start a run in {project!r} ({first_line(error)}); log in "
                "by `wandb login`, set WANDB_MODE=offline, or leave the setting empty."
            ) from error
        self._run.define_metric("*", step_metric="step")

    def scalars(self, row: Row) -> None:
        """Sends every number of a row under its name, at the row's step."""
        self._run.log({name: value for name, value in row.items() if value is not None})

    def picture(self, name: str, step: int, pixels: np.ndarray) -> None:
        """Sends a picture, uint8 [height, width, 3]."""
        self._run.log({name: self._wandb.Image(pixels), "step": step})

    def close(self) -> None:
        """Waits until everything is sent."""
        self._run.finish()


def _place(directory: Path) -> str:
    """Where the package keeps what it sends: of a run in a bucket, on this machine."""
    return tempfile.gettempdir() if isinstance(directory, BucketPath) else str(directory)


def _identity(file: Path) -> str:
    """The name by which a run is found again, made once."""
    if not file.is_file():
        write_text(file, uuid.uuid4().hex)
    return file.read_text(encoding="utf-8")
