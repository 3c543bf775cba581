"""The speed of training the trunk: its loss, the gradient of it, and the whole update."""

import statistics
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mvar_jax import cli
from mvar_jax.benchmark.batches import Official, measure_batches
from mvar_jax.benchmark.placed import check_fits
from mvar_jax.compilation.report import total_cost
from mvar_jax.compilation.training_check import TrainingPrograms, training_parts
from mvar_jax.config import Config
from mvar_jax.evaluation.programs import alternate, compile_timed, timed
from mvar_jax.models import build_trunk
from mvar_jax.sampling import Weights
from mvar_jax.tokenizers import build_tokenizer
from mvar_jax.training.state import new_state
from mvar_jax.training.step import Frozen, make_trunk_evaluation

COLUMNS = {
    "batch": ("images", "d"),
    "images_per_second": ("images/s", ".3g"),
    "seconds": ("step s", ".3f"),
    "seconds_forward": ("forward s", ".3f"),
    "seconds_backward": ("backward s", ".3f"),
    "share_of_matmul": ("of matmul", ".0%"),
    "share_of_copy": ("of copy", ".0%"),
    "compile_seconds": ("compile s", ".1f"),
    "peak_bytes": ("bytes", ".3g"),
    "ratio_to_reference": ("official / ours", ".2f"),
    "ratio_forward": ("of forward", ".2f"),
    "ratio_backward": ("of backward", ".2f"),
}


def main() -> None:
    """The command `train`."""
    measure_batches("train", COLUMNS, measure_training, parts=cli.get_config().training.accumulate)


class PassSeconds(NamedTuple):
    """Seconds of the loss with its gradient, and of the loss alone."""

    both: float
    forward: float

    @property
    def backward(self) -> float:
        """What the gradient takes beyond the loss."""
        return self.both - self.forward


def measure_training(
    config: Config, weights: Weights, batch: int, repeats: int, official: Official | None
) -> dict[str, Any]:
    """A row of medians over `repeats` steps of `batch` images from tokens.

    Other runs of the same weights, by `official`, alternate with our gradients; they have no
    optimizer, so that ratios are of the gradient. Raises ValueError for a batch that does not fit
    into memory.
    """
    config = replace(config, batch_size=batch)
    case, cost = _Training(config, weights), total_cost(training_parts(config, {})[0])
    steps = alternate({"step": partial(timed, case.update)}, repeats)["step"]
    passes = {"ours": case.passes} | ({"official": official} if official else {})
    runs = alternate(passes, repeats)
    own, seconds = _medians(runs["ours"]), statistics.median(steps)
    row = {
        "images_per_second": batch / seconds,
        "seconds": seconds,
        "seconds_spread": [min(steps), max(steps)],
        "seconds_forward": own.forward,
        "seconds_backward": own.backward,
        "compile_seconds": case.compile_seconds,
        "peak_bytes": case.memory.peak,
        "flops": cost.flops,
        "bytes_moved": cost.bytes_moved,
        "ratio_to_reference": None,
    }
    if official:
        other = _medians(runs["official"])
        row |= {
            "ratio_to_reference": other.both / own.both,
            "ratio_forward": other.forward / own.forward,
            "ratio_backward": other.backward / own.backward,
            "reference_seconds_forward": other.forward,
            "reference_seconds_backward": other.backward,
        }
    return row


class _Training:
    """A training on the ambient mesh; the state of every update replaces the one before."""

    def __init__(self, config: Config, weights: Weights):
        training, trunk = config.training, build_trunk(config)
        programs, tokenizer = TrainingPrograms(config), build_tokenizer(config.tokenizer)
        copied = jax.jit(partial(jax.tree.map, jnp.copy))(weights.trunk)
        self.state = new_state(copied, programs.optimizer, training.ema_decay)
        self.given = jax.tree.map(_zeros, programs.batch), Frozen(weights.tokenizer)
        step = jax.jit(programs.whole, donate_argnums=0)
        self.step, self.compile_seconds = compile_timed(step, self.state, *self.given)
        self.memory = check_fits(self.step, config.batch_size)
        now = (self.state.params, self.state.step, *self.given)
        self.gradient = jax.jit(programs.gradient).lower(*now).compile()
        evaluation = make_trunk_evaluation(trunk, tokenizer)
        self.loss = jax.jit(evaluation).lower(self.state, *self.given).compile()

    def update(self):
        """One step, and its metrics."""
        self.state, metrics = self.step(self.state, *self.given)
        return metrics

    def passes(self) -> tuple[float, float]:
        """The seconds of one gradient, and of one loss."""
        both = timed(partial(self.gradient, self.state.params, self.state.step, *self.given))
        return both, timed(partial(self.loss, self.state, *self.given))


def _medians(runs: list[tuple[float, float]]) -> PassSeconds:
    return PassSeconds(*(statistics.median(column) for column in zip(*runs)))


def _zeros(shape: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.zeros(shape.shape, shape.dtype, device=shape.sharding)
