"""Schedules of the learning rate and of the weight decay.

The curves and their names are those of VAR's `lr_control`. Steps are counted from 0, and the curves
end at the last one, `total_steps - 1`. Steps are subtracted as integers before they are divided, so
that float32 is exact up to rounding in runs of any length.
"""

import jax.numpy as jnp
import optax

from mvar_jax.array_types import Array, Float
from mvar_jax.checks import check
from mvar_jax.config import OptimizerConfig

FLAT_SHARE = {"lin0": 0.05, "lin": 0.15, "lin00": 0.0}
"""Share of the steps after warm-up in which a linear schedule stays at its peak."""


def learning_rate_schedule(
    config: OptimizerConfig, total_steps: int, batch_size: int
) -> optax.Schedule:
    """The learning rate of every step: linear warm-up, then the named curve.

    Returns a function of the step (int or int32 scalar) that can be traced. The peak is
    `config.peak(batch_size)`. Steps after the last one keep its value.

    Raises ValueError if `total_steps` is less than 1.
    """
    _check_steps(total_steps)
    peak = config.peak(batch_size)
    warmup = round(config.warmup_fraction * total_steps)
    last = total_steps - 1

    def schedule(step):
        step = jnp.minimum(step, last)
        rising = config.warmup_start + (1 - config.warmup_start) * step / max(warmup, 1)
        remaining = (last - step) / max(last - warmup, 1)
        return peak * jnp.where(step < warmup, rising, _after_warmup(config, remaining))

    return schedule


def weight_decay_schedule(config: OptimizerConfig, total_steps: int) -> optax.Schedule:
    """The weight decay of every step: half a cosine from the first value to the final one.

    It spans all steps, warm-up included. Returns a function of the step that can be traced.
    Raises ValueError if `total_steps` is less than 1.
    """
    _check_steps(total_steps)
    last = total_steps - 1

    def schedule(step):
        remaining = (last - jnp.minimum(step, last)) / max(last, 1)
        change = config.weight_decay - config.final_weight_decay
        return config.final_weight_decay + change * _half_cosine(remaining)

    return schedule


def _after_warmup(config: OptimizerConfig, remaining: Float[Array, ""]) -> Float[Array, ""]:
    """Fraction of the peak; `remaining` falls from 1, right after warm-up, to 0."""
    if config.schedule == "constant":
        return jnp.ones_like(remaining)
    if config.schedule == "cos":
        height = _half_cosine(remaining)
    else:
        height = jnp.minimum(remaining / (1 - FLAT_SHARE[config.schedule]), 1.0)
    return config.final_fraction + (1 - config.final_fraction) * height


def _half_cosine(remaining: Float[Array, ""]) -> Float[Array, ""]:
    """1 to 0 along half a cosine: (1 + cos(pi (1 - remaining))) / 2, without its cancellation."""
    return jnp.sin(remaining * (jnp.pi / 2)) ** 2


def _check_steps(total_steps: int) -> None:
    check(total_steps >= 1, f"total_steps: got {total_steps}, expected at least 1 update.")
