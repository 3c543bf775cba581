"""One update, and one evaluation, of the tokenizer and of the trunk.

The builders return jitted functions `step(state, batch, *frozen) -> (state, metrics)` and
`evaluate(state, batch, *frozen) -> metrics`. A batch is `{"image": float32 [batch, height, width,
3] in [-1, 1], "label": int32 [batch]}`, for the trunk perhaps with the images' `"tokens"`, int32
[batch, total], instead; metrics are scalars. A step gives up the state it gets, whose memory the
new one takes over. Randomness is a function of the seed and the step, so that a
run that is resumed goes on as if it had not stopped.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import optax

from mvar_jax.config import TrainingConfig
from mvar_jax.tokenizers import VQTokenizer
from mvar_jax.training.losses import Metrics, tokenizer_loss, trunk_loss
from mvar_jax.training.optimizer import current_learning_rate
from mvar_jax.training.state import TrainState, apply_gradients
from mvar_jax.typing import Array, Params


def make_trunk_step(
    trunk: nn.Module,
    tokenizer: VQTokenizer,
    optimizer: optax.GradientTransformation,
    config: TrainingConfig,
    seed: int,
) -> Callable:
    """An update of the trunk: `step(state, batch, tokenizer_params)`.

    The tokenizer, which is not trained, makes tokens of images and inputs of tokens. Class dropout
    and stochastic depth draw from the seed and the step. Metrics are those of `trunk_loss`, and
    `gradient_norm` before clipping and `learning_rate` of this update.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, batch, tokenizer_params):
        inputs, targets = _teacher_forcing(tokenizer, tokenizer_params, batch)
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss(params):
            variables, streams = {"params": params}, {"dropout": key}
            logits = trunk.apply(variables, batch["label"], inputs, train=True, rngs=streams)
            return trunk_loss(logits, targets, tokenizer, config.label_smoothing)

        return _update(state, loss, optimizer, config.ema_decay)

    return step


def make_trunk_evaluation(trunk: nn.Module, tokenizer: VQTokenizer) -> Callable:
    """The metrics of `trunk_loss`: `evaluate(state, batch, tokenizer_params)`.

    Of the parameters to sample with, without dropout of classes or paths and without label
    smoothing.
    """

    @jax.jit
    def evaluate(state, batch, tokenizer_params):
        inputs, targets = _teacher_forcing(tokenizer, tokenizer_params, batch)
        logits = trunk.apply({"params": state.sampling_params}, batch["label"], inputs)
        return trunk_loss(logits, targets, tokenizer)[1]

    return evaluate


def make_tokenizer_step(
    tokenizer: VQTokenizer, optimizer: optax.GradientTransformation, config: TrainingConfig
) -> Callable:
    """An update of the tokenizer: `step(state, batch)`.

    Metrics are those of `tokenizer_loss`, and `gradient_norm` before clipping and
    `learning_rate` of this update.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        loss = functools.partial(_tokenizer_loss, tokenizer, images=batch["image"])
        return _update(state, loss, optimizer, config.ema_decay)

    return step


def make_tokenizer_evaluation(tokenizer: VQTokenizer) -> Callable:
    """The metrics of `tokenizer_loss`, of the parameters to sample with: `evaluate(state, batch)`.

    Nothing is drawn at random.
    """

    @jax.jit
    def evaluate(state, batch):
        return _tokenizer_loss(tokenizer, state.sampling_params, batch["image"])[1]

    return evaluate


def _update(
    state: TrainState, loss: Callable, optimizer: optax.GradientTransformation, ema_decay: float
) -> tuple[TrainState, Metrics]:
    """Follows the gradient of `loss(params) -> (loss, metrics)`; adds to the metrics."""
    gradients, metrics = jax.grad(loss, has_aux=True)(state.params)
    state = apply_gradients(state, gradients, optimizer, ema_decay)
    return state, metrics | {
        "gradient_norm": optax.global_norm(gradients),
        "learning_rate": current_learning_rate(state.opt_state),
    }


def _teacher_forcing(
    tokenizer: VQTokenizer, params: Params, batch: dict[str, Array]
) -> tuple[Array, Array]:
    """The trunk's inputs and target tokens for a batch of images, or of tokens."""
    variables = {"params": params}
    if "tokens" in batch:
        tokens = batch["tokens"]
        return tokenizer.apply(variables, tokens, method="inputs_from_tokens"), tokens
    features = tokenizer.apply(variables, batch["image"], method="encode")
    return tokenizer.apply(variables, features, method="training_pair")


def _tokenizer_loss(tokenizer: VQTokenizer, params: Params, images: Array):
    reconstruction, vq_loss = tokenizer.apply({"params": params}, images, method="reconstruct")
    return tokenizer_loss(images, reconstruction, vq_loss)
