"""Training step and evaluation of the tokenizer.

Jitted functions `step(state, batch, perceptual) -> (state, metrics)`, which donates its state, and
`evaluate(state, batch, perceptual) -> metrics`, of batches as those of the trunk. `perceptual` are
the parameters of LPIPS, None without it: an input, since as constants they would be compiled into
the programs. Metrics are scalars.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import optax
from einops import rearrange
from jax.lax import Precision

from mvar_jax.array_types import Array, Float, Params, PyTree, batch_size
from mvar_jax.config import FROZEN, CodebookConfig, TokenizerLossConfig, TrainingConfig
from mvar_jax.models.parameters import constrain_params
from mvar_jax.networks.lpips import Backbone, perceptual_distance
from mvar_jax.tokenizers import Tokenizer
from mvar_jax.training.accumulation import mean_over_parts
from mvar_jax.training.adversarial_losses import adaptive_quotient
from mvar_jax.training.adversary import KEPT, Adversary
from mvar_jax.training.codebook import CodebookCare
from mvar_jax.training.losses import SQUARED_ERROR, Distance, tokenizer_loss
from mvar_jax.training.state import TrainState
from mvar_jax.training.step import update


@dataclass(frozen=True)
class Objective:
    """What a tokenizer is trained for, with what its settings alone do not say.

    Losses may begin late. The steps until then are those of another objective, `at` the step, which
    leave the adversary's part of the state alone: a program of their own, since XLA on CPUs
    computes the convolutions of a branch far more slowly.
    """

    config: TokenizerLossConfig = SQUARED_ERROR
    backbone: Backbone | None = None  # of LPIPS
    adversary: Adversary | None = None
    frozen: str = "none"  # parts of the tokenizer, as `Config.tokenizer_frozen` says
    lpips_first: int = 0  # step that LPIPS begins with, counted from 0

    def start(self, image_size: tuple[int, int]) -> dict[str, PyTree] | None:
        """What a training state keeps besides, before the first update; None for nothing.

        For images of (height, width) pixels.
        """
        return None if self.adversary is None else {KEPT: self.adversary.start(image_size)}

    def starts(self) -> list[int]:
        """The steps, counted from 0, from which on it is another one: 0 and what begins later."""
        lpips = self.lpips_first if self.backbone is not None else 0
        return sorted({0, lpips, 0 if self.adversary is None else self.adversary.first})

    def at(self, step: int) -> "Objective":
        """The losses that have begun at a step, counted from 0."""
        begun = self
        if self.backbone is not None and step < self.lpips_first:
            begun = replace(begun, backbone=None, config=replace(self.config, lpips=0.0))
        if self.adversary is not None and step < self.adversary.first:
            begun = replace(begun, adversary=None)
        return begun

    def distance(
        self, perceptual: Params | None, precision: Precision, every: int = 1
    ) -> Distance | None:
        """LPIPS with its parameters, on the first of every `every` images; None without it."""
        if self.backbone is None or perceptual is None:
            return None
        lpips = functools.partial(
            perceptual_distance, self.backbone, perceptual, precision=precision
        )

        def thinned(images):
            # Reshaped, not sliced: rows stay on their devices where these divide what is left.
            return rearrange(images, "(batch every) h w c -> batch every h w c", every=every)[:, 0]

        return lambda images, made: lpips(thinned(images), thinned(made))


def make_tokenizer_step(
    tokenizer: Tokenizer,
    optimizer: optax.GradientTransformation,
    config: TrainingConfig,
    objective: Objective = Objective(),
    *,
    care: CodebookCare | None = None,
) -> Callable:
    """An update of the tokenizer, and of its adversary: `step(state, batch, perceptual=None)`.

    Metrics are those of `tokenizer_loss`, of `CodebookCare` and, with an adversary, of
    `Adversary.judge`, with `adaptive_weight`, the factor of `generator_loss` in `loss`; then
    `gradient_norm` before clipping, `learning_rate` of the last update, `skipped` and
    `skipped_in_a_row`. The adaptive weight of a batch in parts is each part's own.
    """
    adversary = objective.adversary
    cared = care or CodebookCare(tokenizer, CodebookConfig(), parts=config.accumulate)
    follow = make_tokenizer_update(optimizer, config, objective)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, batch, perceptual=None):
        of_part = functools.partial(_gradients, objective, cared, state, perceptual)
        batch = cared.with_draws(batch, state.step)
        if adversary is not None:
            batch = batch | {"key": adversary.keys(state.step, batch_size(batch))}
        (gradients, judged, seen), metrics = mean_over_parts(of_part, batch, config.accumulate)
        return cared.after(*follow(state, gradients, judged, metrics), seen)

    return step


def make_tokenizer_update(
    optimizer: optax.GradientTransformation, config: TrainingConfig, objective: Objective
) -> Callable:
    """What a step does with gradients: `follow(state, gradients, judged, metrics)`.

    `judged` are the gradients of the adversary, None without it, and metrics those of a batch.
    Returns the state after the updates, and further metrics.
    """
    adversary, frozen = objective.adversary, objective.frozen

    def follow(state, gradients, judged, metrics):
        extra, finite = state.extra, True
        if adversary is not None:
            own, finite = adversary.updated(extra[KEPT], judged, metrics)
            extra = {**extra, KEPT: own}
        none = jax.tree.map(jnp.zeros_like, state.params)
        before, gradients = state, _kept(gradients, none, frozen)
        state, metrics = update(
            state,
            gradients,
            metrics,
            optimizer=optimizer,
            ema_decay=config.ema_decay,
            extra=extra,
            finite=finite,
        )
        params = _kept(state.params, before.params, frozen)  # decay moves them too
        average = state.average and _kept(state.average, before.average, frozen)
        return replace(state, params=params, average=average), metrics

    return follow


def make_tokenizer_evaluation(tokenizer: Tokenizer, objective: Objective = Objective()) -> Callable:
    """The metrics of `tokenizer_loss`: `evaluate(state, batch, perceptual=None)`.

    They are those of the parameters to sample with. There is no randomness and no adversary, and
    LPIPS is computed in true float32.
    """

    @jax.jit
    def evaluate(state, batch, perceptual=None):
        images = batch["image"]
        distance = objective.distance(perceptual, Precision.HIGHEST)
        made = _reconstruct(tokenizer, images, state.sampling_params)
        return tokenizer_loss(images, *made, objective.config, distance)[1]

    return evaluate


def _gradients(
    objective: Objective,
    care: CodebookCare,
    state: TrainState,
    perceptual: Params | None,
    rows: dict[str, Array],
) -> tuple[tuple[Params, PyTree, PyTree], dict[str, Array]]:
    """The gradients of the tokenizer and of its adversary, what is seen of codes, and metrics."""
    images = rows["image"]

    def run(params):
        made = care.tokenizer.apply(
            {"params": params}, images, rows.get("depth"), method="training_pass"
        )
        return care.observe(made, rows)

    made, pull, (seen, more) = jax.vjp(run, state.params, has_aux=True)
    every = objective.config.lpips_every
    distance = objective.distance(perceptual, Precision.DEFAULT, every)

    def of_images(reconstruction):
        return tokenizer_loss(images, reconstruction, made[1], objective.config, distance)

    (loss, metrics), slope = jax.value_and_grad(of_images, has_aux=True)(made[0])
    metrics |= more
    judged = None
    if objective.adversary is not None:
        adversarial, judged, opinion = objective.adversary.judge(
            state.extra[KEPT], images, made[0], rows["key"]
        )
        weight = objective.adversary.weight(state.step)
        if objective.config.adaptive:
            near, real = (_at_last_layer(pull, each) for each in (slope, adversarial))
            weight *= adaptive_quotient(near, real, objective.config.adaptive_clamp)
        slope += weight * adversarial
        loss += weight * opinion["generator_loss"]
        metrics |= {**opinion, "adaptive_weight": weight, "loss": loss}
    (gradients,) = pull((slope, jnp.ones_like(made[1])))
    return (constrain_params(gradients), judged, seen), metrics


def _kept(tree: Params, frozen: Params, parts: str) -> Params:
    """A tree like the parameters, with frozen parts as in another one."""
    names = FROZEN[parts]
    return {name: (frozen if name.startswith(names) else tree)[name] for name in tree}


def _reconstruct(
    tokenizer: Tokenizer, images: Float[Array, "batch height width 3"], params: Params
) -> tuple[Float[Array, "batch height width 3"], Float[Array, ""]]:
    """Reconstructions, and the quantizer's loss."""
    return tokenizer.apply({"params": params}, images, method="reconstruct")


def _at_last_layer(pull: Callable, slope: Array) -> Array:
    """The gradient at the kernel of the decoder's last convolution, from that at its images.

    All the rest of `pull` is dead code, which the compiler removes.
    """
    (gradients,) = pull((slope, jnp.zeros([], jnp.float32)))
    return gradients["decoder"]["conv_out"]["kernel"]
