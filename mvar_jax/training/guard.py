"""Watching for NaN and inf, without making the host wait for the device."""

from collections import deque

import jax
import jax.numpy as jnp

from mvar_jax.array_types import path_name
from mvar_jax.checks import check
from mvar_jax.training.losses import Metrics
from mvar_jax.training.metrics import Row
from mvar_jax.training.state import TrainState

STEPS_IN_FLIGHT = 2
"""How many steps the host may be ahead of the device: enough to hide it, few batches in memory."""


class TooManySkippedError(ValueError):
    """Too many steps in a row had a loss or a gradient with NaN or inf."""


class Guard:
    """Follows the metrics of the steps, a few behind, so that the host does not run far ahead.

    Raises TooManySkippedError at the step that is the `limit`-th in a row to be skipped, as soon as
    that is known.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._in_flight: deque[tuple[int, Metrics]] = deque()

    def follow(self, step: int, metrics: Metrics) -> None:
        """Another step was started; waits for the one before the last few."""
        self._in_flight.append((step, metrics))
        if len(self._in_flight) > STEPS_IN_FLIGHT:
            self._check(*self._in_flight.popleft())

    def numbers(self) -> Row:
        """The metrics of the latest step as numbers; waits for it."""
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
                f"{in_a_row} steps in a row up to step {step} were skipped, whose loss or gradient "
                f"was not finite (loss {loss}, gradient norm {norm})"
            )


def check_finite(state: TrainState) -> None:
    """Raises ValueError, naming an array, unless all numbers of a state are finite.

    From such a state on, skipping steps keeps it so.
    """
    finite = jax.jit(lambda tree: jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), tree))
    for path, good in jax.tree_util.tree_leaves_with_path(jax.device_get(finite(state))):
        name = path_name(path)
        check(
            bool(good),
            f"the state to start from holds numbers in {name} that are not finite; start from "
            "other weights.",
        )
