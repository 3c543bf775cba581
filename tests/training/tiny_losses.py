"""The tiny tokenizer's training with all losses: LPIPS by a tiny network, and an adversary."""

import functools
from dataclasses import replace

import jax

from mvar_jax.config import OptimizerConfig, TokenizerLossConfig
from mvar_jax.training.adversary import Adversary
from mvar_jax.training.loop import InitialState, Programs
from mvar_jax.training.placement import place
from mvar_jax.training.state import create_state
from mvar_jax.training.tokenizer_step import (
    Objective,
    make_tokenizer_evaluation,
    make_tokenizer_step,
)
from tests.evaluation.networks import tiny_lpips
from tests.training.tiny import CONFIG, TOKENIZER, fit_in, optimizer, tokenizer_params

SIZE = CONFIG.tokenizer.image_size
STEPS = CONFIG.training.steps
FIRST = 2  # step of the adversary
NETWORK = tiny_lpips()
BACKBONE = NETWORK.backbone
ALL = TokenizerLossConfig(
    l1=0.2,
    lpips=0.5,
    adversarial=0.4,
    adversarial_start=0.34,  # from the third of six steps
    adversarial_ramp=0.34,
    lecam=0.1,
    diffaug=True,
    discriminator_channels=4,
    discriminator_layers=1,
)
WITH_ALL = replace(
    CONFIG,
    tokenizer_loss=ALL,
    discriminator_optimizer=OptimizerConfig(learning_rate=0.2, beta1=0.5, beta2=0.9),
)


def perceptual():
    """The parameters of LPIPS by a tiny network."""
    return jax.device_put(NETWORK.params, jax.local_devices()[0])


@functools.cache
def objective(**changes):
    """All losses, with other settings."""
    config = replace(WITH_ALL, tokenizer_loss=replace(ALL, **changes))
    return Objective(config.tokenizer_loss, BACKBONE, Adversary.of(config, STEPS))


@functools.cache
def step(accumulate=1, **changes):
    training = replace(CONFIG.training, accumulate=accumulate)
    return make_tokenizer_step(TOKENIZER, optimizer(), training, objective(**changes))


@functools.cache
def early_step():
    """That of the steps before `FIRST`."""
    early = objective().at(FIRST - 1)
    return make_tokenizer_step(TOKENIZER, optimizer(), CONFIG.training, early)


@functools.cache
def evaluation():
    return make_tokenizer_evaluation(TOKENIZER, objective())


def extra():
    return objective().start(SIZE)


def state():
    decay = CONFIG.training.ema_decay
    return place(create_state(tokenizer_params(), optimizer(), decay, extra))


def fit_with_all(directory, **data):
    """Trains the tiny tokenizer with all losses in a directory."""
    programs = Programs(
        functools.partial(early_step(), perceptual=perceptual()),
        functools.partial(evaluation(), perceptual=perceptual()),
        later=((FIRST, functools.partial(step(), perceptual=perceptual())),),
    )
    return fit_in("tokenizer", directory, programs, InitialState(state(), state), **data)
