"""The speed of training the trunk: its loss, the gradient of it, and the whole update."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from mvar_jax import cli
from mvar_jax.benchmark.batches import Case, measure_batches
from mvar_jax.benchmark.placed import check_fits
from mvar_jax.benchmark.seconds import alternating, spread_columns, timing_columns
from mvar_jax.compilation.report import total_cost
from mvar_jax.compilation.training_check import TrainingPrograms, training_parts
from mvar_jax.config import Config
from mvar_jax.evaluation.programs import alternate, compile_timed, timed
from mvar_jax.sampling import Weights
from mvar_jax.training.state import new_state
from mvar_jax.training.step import Frozen

COLUMNS = {
    "batch": ("images", "d"),
    "images_per_second": ("images/s", ".3g"),
    "seconds": ("step s", ".3f"),
    "seconds_forward": ("forward s", ".3f"),
    "seconds_backward": ("backward s", ".3f"),
    "share_of_matmul": ("of matmul", ".0%"),
    "share_of_copy": ("of copy", ".0%"),
    "compile_seconds": ("compile s", ".1f"),
    "peak_bytes": ("memory", "memory"),
    "ratio_to_reference": ("gradient: official / ours", ".2f"),
    "ratio_forward": ("of forward", ".2f"),
    "ratio_backward": ("of backward", ".2f"),
}


def main() -> None:
    """The command `train`."""
    measure_batches("train", COLUMNS, measure_training, parts=cli.get_config().training.accumulate)


def measure_training(case: Case) -> dict[str, Any]:
    """A row of medians of steps from tokens.

    Runs of the official code alternate with our gradients; they have no optimizer, so that ratios
    are of the gradient. Raises ValueError for a batch that does not fit into memory.
    """
    config = case.config
    training, cost = _Training(config, case.weights), total_cost(training_parts(config, {})[0])
    steps = alternate({"step": partial(timed, training.update)}, case.repeats)["step"]
    runs, spread = alternating(training.passes, case.official, case.repeats), spread_columns(steps)
    return {
        "images_per_second": config.batch_size / spread["seconds"],
        **spread,
        **timing_columns(runs, part="forward", rest="backward"),
        "compile_seconds": training.compile_seconds,
        "peak_bytes": training.memory.peak,
        "flops": cost.flops,
        "bytes_moved": cost.bytes_moved,
    }


class _Training:
    """A training on the ambient mesh; the state of every update replaces the one before."""

    def __init__(self, config: Config, weights: Weights):
        programs = TrainingPrograms(config)
        copied = jax.jit(partial(jax.tree.map, jnp.copy))(weights.trunk)
        self.state = new_state(copied, programs.optimizer, config.training.ema_decay)
        self.given = jax.tree.map(_zeros, programs.batch), Frozen(weights.tokenizer)
        step = jax.jit(programs.whole, donate_argnums=0)
        self.step, self.compile_seconds = compile_timed(step, self.state, *self.given)
        self.memory = check_fits(self.step, config.batch_size, beside=weights.trunk)
        now = (self.state.params, self.state.step, *self.given)
        self.gradient = jax.jit(programs.gradient).lower(*now).compile()
        # Of the gradient's results the metrics need the forward pass alone.
        loss = jax.jit(lambda *given: programs.gradient(*given)[1])
        self.loss = loss.lower(*now).compile()

    def update(self):
        """One step, and its metrics."""
        self.state, metrics = self.step(self.state, *self.given)
        return metrics

    def passes(self) -> tuple[float, float]:
        """The seconds of one gradient, and of one loss, both with the draws of training."""
        now = (self.state.params, self.state.step, *self.given)
        return timed(partial(self.gradient, *now)), timed(partial(self.loss, *now))


def _zeros(shape: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.zeros(shape.shape, shape.dtype, device=shape.sharding)
