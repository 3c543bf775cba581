"""Training steps and evaluations of the trunk, and the update that all trainings share.

The builders return jitted functions `step(state, batch, frozen) -> (state, metrics)` and
`evaluate(state, batch, frozen) -> metrics`. A batch is `{"image": float32 [batch, height, width,
3] in [-1, 1], "label": int32 [batch]}`; `"tokens"`, int32 [batch, total], may replace the images.
Metrics are scalars. A step donates its input state. Randomness is a function of the seed, the step
and the row of the batch: resuming a run, other devices or another number of parts do not change it.
"""

import functools
from collections.abc import Callable, Mapping

import flax.struct
import jax
import jax.numpy as jnp
import optax

from mvar_jax.array_types import Array, Bool, Params, PyTree, batch_size
from mvar_jax.config import TrainingConfig
from mvar_jax.models import Trunk
from mvar_jax.models.adapter import merge
from mvar_jax.models.conditioner import read_condition
from mvar_jax.ops.noise import make_key
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers import Tokenizer
from mvar_jax.training.accumulation import accumulated_gradients
from mvar_jax.training.losses import Metrics, trunk_loss
from mvar_jax.training.optimizer import current_learning_rate
from mvar_jax.training.state import TrainState, apply_gradients

Schedules = Mapping[tuple[int, int], ScaleSchedule]
"""Scales by the size of images, (height, width) in pixels."""


@flax.struct.dataclass
class Frozen:
    """Inputs of the trunk's training that never change."""

    tokenizer: Params  # computes tokens of images, and inputs from tokens
    base: Params | None = None  # the trunk that an adapter is trained of; None trains it whole
    strength: float = flax.struct.field(pytree_node=False, default=1.0)  # of the adapter

    def trunk(self, params: Params) -> Params:
        """The whole trunk's parameters, where `params` are what is trained of it."""
        if self.base is None:
            return params
        return merge(self.base, params, strength=self.strength)


def make_trunk_step(
    trunk: Trunk,
    tokenizer: Tokenizer,
    optimizer: optax.GradientTransformation,
    *,
    config: TrainingConfig,
    seed: int,
    schedules: Schedules | None = None,
) -> Callable:
    """An update of the trunk: `step(state, batch, frozen) -> (state, metrics)`.
    The state's parameters are the trunk's, or with `frozen.base` those of an adapter of it.
    Images of a size in `schedules` have its scales, others the tokenizer's own.

    Class dropout and stochastic depth draw from the seed, the step and the image's row in the
    batch. Metrics are those of `trunk_loss`, and `gradient_norm` before clipping, `learning_rate`
    of the last update, `skipped` and `skipped_in_a_row`.
    """

    gradient = make_trunk_gradient(trunk, tokenizer, config, seed=seed, schedules=schedules)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, batch, frozen):
        gradients, metrics = gradient(state.params, state.step, batch, frozen)
        return update(state, gradients, metrics, optimizer=optimizer, ema_decay=config.ema_decay)

    return step


def make_trunk_gradient(
    trunk: Trunk,
    tokenizer: Tokenizer,
    config: TrainingConfig,
    *,
    seed: int,
    schedules: Schedules | None = None,
) -> Callable:
    """The gradients of an update of the trunk.

    `gradient(params, step, batch, frozen) -> (gradients, metrics of trunk_loss)`.
    """

    def gradient(params, step, batch, frozen):
        key = jax.random.fold_in(make_key(seed), step)
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(batch_size(batch)))

        def loss(params, part):
            schedule = _schedule(tokenizer, schedules, part)
            inputs, targets = _teacher_forcing(tokenizer, frozen.tokenizer, part, schedule)
            condition = read_condition(part)
            variables = {"params": frozen.trunk(params)}
            logits = trunk.apply(variables, condition, inputs, part["key"], schedule=schedule)
            smoothing, weights = config.label_smoothing, config.scale_weights
            return trunk_loss(
                logits, targets, tokenizer, smoothing, schedule, scale_weights=weights
            )

        return accumulated_gradients(loss, batch | {"key": keys}, config.accumulate)(params)

    return gradient


def make_trunk_evaluation(trunk: Trunk, tokenizer: Tokenizer) -> Callable:
    """The metrics of `trunk_loss`: `evaluate(state, batch, frozen)`.

    They are those of the parameters to sample with, without class dropout, stochastic depth and
    label smoothing.
    """

    @jax.jit
    def evaluate(state, batch, frozen):
        schedule = tokenizer.schedule
        inputs, targets = _teacher_forcing(tokenizer, frozen.tokenizer, batch, schedule)
        variables = {"params": frozen.trunk(state.sampling_params)}
        logits = trunk.apply(variables, read_condition(batch), inputs)
        return trunk_loss(logits, targets, tokenizer)[1]

    return evaluate


def update(
    state: TrainState,
    gradients: Params,
    metrics: Metrics,
    *,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    extra: PyTree = None,
    finite: Bool[Array, ""] | bool = True,
) -> tuple[TrainState, Metrics]:
    """The state after an update by the gradients, and further metrics.

    `extra`, if given, replaces what else the state keeps. Unless the loss and the gradient norm are
    finite, and what else `finite` says, only the counts of steps change.
    """
    norm = optax.global_norm(gradients)
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm) & finite
    state = apply_gradients(
        state, gradients, optimizer, ema_decay=ema_decay, finite=finite, extra=extra
    )
    return state, metrics | {
        "gradient_norm": norm,
        "learning_rate": current_learning_rate(state.opt_state),
        "skipped": state.skipped[0],
        "skipped_in_a_row": state.skipped[1],
    }


def _schedule(
    tokenizer: Tokenizer, schedules: Schedules | None, batch: dict[str, Array]
) -> ScaleSchedule:
    """The scales of a batch's images."""
    if schedules is None or "tokens" in batch:
        return tokenizer.schedule
    height, width = batch["image"].shape[1:3]
    return schedules[height, width]


def _teacher_forcing(
    tokenizer: Tokenizer, params: Params, batch: dict[str, Array], schedule: ScaleSchedule
) -> tuple[Array, Array]:
    """The trunk's inputs and target tokens for a batch of images, or of tokens."""
    variables, keys = {"params": params}, batch.get("key")
    if "tokens" in batch:
        tokens = batch["tokens"]
        inputs = tokenizer.apply(variables, tokens, keys, schedule, method="inputs_from_tokens")
        return inputs, tokens
    features = tokenizer.apply(variables, batch["image"], schedule, method="encode")
    return tokenizer.apply(variables, features, keys, schedule, method="training_pair")
