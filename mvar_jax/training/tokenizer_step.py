"""Training step and evaluation of the tokenizer.

Jitted functions `step(state, batch) -> (state, metrics)`, which donates its state, and
`evaluate(state, batch) -> metrics`, of batches as those of the trunk. Metrics are scalars.
"""

import functools
from collections.abc import Callable

import jax
import optax

from mvar_jax.array_types import Array, Params
from mvar_jax.config import TrainingConfig
from mvar_jax.tokenizers import Tokenizer
from mvar_jax.training.accumulation import accumulated_gradients
from mvar_jax.training.losses import tokenizer_loss
from mvar_jax.training.step import update


def make_tokenizer_step(
    tokenizer: Tokenizer, optimizer: optax.GradientTransformation, config: TrainingConfig
) -> Callable:
    """An update of the tokenizer: `step(state, batch)`.

    Metrics are those of `tokenizer_loss`, and `gradient_norm` before clipping, `learning_rate`
    of the last update, `skipped` and `skipped_in_a_row`.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        def loss(params, part):
            return _tokenizer_loss(tokenizer, params, part["image"])

        gradients, metrics = accumulated_gradients(loss, batch, config.accumulate)(state.params)
        return update(state, gradients, metrics, optimizer=optimizer, ema_decay=config.ema_decay)

    return step


def make_tokenizer_evaluation(tokenizer: Tokenizer) -> Callable:
    """The metrics of `tokenizer_loss`, of the parameters to sample with: `evaluate(state, batch)`.

    There is no randomness.
    """

    @jax.jit
    def evaluate(state, batch):
        return _tokenizer_loss(tokenizer, state.sampling_params, batch["image"])[1]

    return evaluate


def _tokenizer_loss(tokenizer: Tokenizer, params: Params, images: Array):
    reconstruction, vq_loss = tokenizer.apply({"params": params}, images, method="reconstruct")
    return tokenizer_loss(images, reconstruction, vq_loss)
