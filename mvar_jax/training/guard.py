"""Detects NaN and inf without making the host wait for the device."""

from collections import deque

import jax
import jax.numpy as jnp

from mvar_jax.array_types import path_name
from mvar_jax.checks import check
from mvar_jax.training.losses import Metrics
from mvar_jax.training.metrics import Row
from mvar_jax.training.state import TrainState

STEPS_IN_FLIGHT = 2
"""How many steps the host may be ahead of the device: enough to keep it busy, with few batches."""


class TooManySkippedError(ValueError):
    """Too many steps in a row had a loss or a gradient with NaN or inf."""


class Guard:
    """Reads the metrics of the steps, a few behind, so that the host does not run far ahead.

    Raises TooManySkippedError as soon as it knows that `limit` steps in a row were skipped.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._in_flight: deque[tuple[int, Metrics]] = deque()

    def follow(self, step: int, metrics: Metrics) -> None:
        """Records a step that was started; waits for the one `STEPS_IN_FLIGHT` steps before."""
        self._in_flight.append((step, metrics))
        if len(self._in_flight) > STEPS_IN_FLIGHT:
            self._check(*self._in_flight.popleft())

    def numbers(self) -> Row:
        """The metrics of the latest step, as Python numbers; waits for that step."""
        while len(self._in_flight) > 1:
            self._check(*self._in_flight.popleft())
        step, metrics = self._in_flight.popleft()
        self._check(step, metrics)
        return {name: value.item() for name, value in jax.device_get(metrics).items()}

    def _check(self, step: int, metrics: Metrics) -> None:
        in_a_row = int(jax.device_get(jax.block_until_ready(metrics)["skipped_in_a_row"]))
        if in_a_row >= self._limit:
            loss, norm = jax.device_get((metrics["loss"], metrics["gradient_norm"]))
            raise TooManySkippedError(
                f"{in_a_row} steps in a row up to step {step} were skipped because of NaN or inf "
                f"(loss {loss}, gradient norm {norm})"
            )


def check_finite(state: TrainState) -> None:
    """Raises ValueError, naming an array, if a state has NaN or inf.

    Training from a state without them never gets any, because such steps are skipped.
    """
    finite = jax.jit(lambda tree: jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), tree))
    for path, good in jax.tree_util.tree_leaves_with_path(jax.device_get(finite(state))):
        name = path_name(path)
        check(
            bool(good),
            f"the initial state has NaN or inf in {name}, expected finite numbers; start from "
            "other weights.",
        )
