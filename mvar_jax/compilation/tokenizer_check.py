"""The real step of a tokenizer's training, compiled for a topology, and the cost of its parts."""

import time
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from mvar_jax.array_types import Params
from mvar_jax.compilation.chips import Options
from mvar_jax.compilation.program import Advance, Program, batch_shape
from mvar_jax.compilation.report import Part, Report
from mvar_jax.compilation.topology import get_chip, topology_devices
from mvar_jax.config import Config
from mvar_jax.mesh.sharding import BatchLayout, make_mesh
from mvar_jax.networks.lpips import BACKBONES, Backbone, lpips_shapes
from mvar_jax.tokenizers import build_tokenizer
from mvar_jax.training.adversary import KEPT, Adversary
from mvar_jax.training.codebook import CodebookCare
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.state import state_shapes
from mvar_jax.training.tokenizer_step import (
    Objective,
    make_tokenizer_step,
    make_tokenizer_update,
)
from mvar_jax.training.weights import tokenizer_shapes

STEPS = 100_000  # length of the schedules; any number gives the same program


def tokenizer_programs(config: Config) -> int:
    """How many programs the check of a config compiles."""
    return 1 if config.tokenizer_training.accumulate == 1 else 3


def check_tokenizer_training(config: Config, topology: str, *, advance: Advance) -> Report:
    """Compiles the update of the tokenizer, with its discriminator if the config has one.

    Of a batch in parts the compiler's cost analysis counts one. What one costs is that of an update
    by its images alone, less the optimizers', which are compiled apart. The model's own FLOPs are
    not counted, so utilisation is of all that the program computes. `advance` is told of every
    program that is compiled, `tokenizer_programs` in all. Raises ValueError for a topology, mesh
    and batch that do not fit; errors of the compiler, such as too little memory, are not caught.
    """
    chip, devices = get_chip(topology), topology_devices(topology)
    mesh = make_mesh(config.mesh, devices)
    accumulate = config.tokenizer_training.accumulate
    BatchLayout(mesh).check_batch(config.batch_size, accumulate)
    with jax.set_mesh(mesh):
        start = time.monotonic()
        whole = Program(*TokenizerPrograms(config).step, options=chip.compiler.options)
        seconds = time.monotonic() - start
        advance()
        parts = [Part("update", whole.cost)]
        if accumulate > 1:
            parts = training_parts(config, chip.compiler.estimate_options, advance=advance)
    return Report(topology, len(devices), chip, whole.memory, parts, None, seconds)


def training_parts(config: Config, options: Options, *, advance: Advance) -> list[Part]:
    """A part of the batch, as often as there are, and the optimizers."""
    accumulate = config.tokenizer_training.accumulate
    training = replace(config.tokenizer_training, accumulate=1)
    size = config.batch_size // accumulate
    part = TokenizerPrograms(replace(config, batch_size=size, tokenizer_training=training))
    once = Program(*part.step, options=options).cost
    advance()
    optimizers = Program(*part.update, options=options).cost
    advance()
    return [Part("gradients", once - optimizers, accumulate), Part("optimizers", optimizers)]


class TokenizerPrograms:
    """The functions of a training step, each with its arguments' shapes, on the ambient mesh."""

    def __init__(self, config: Config):
        loss, training = config.tokenizer_loss, config.tokenizer_training
        tokenizer = build_tokenizer(config.tokenizer)
        backbone = BACKBONES[loss.lpips_network] if loss.lpips else None
        adversary = Adversary.of(config, STEPS)
        objective = Objective(loss, backbone, adversary, config.tokenizer_frozen)
        care = CodebookCare(tokenizer, config.codebook, config.seed, training.accumulate)
        optimizer = make_optimizer(config.tokenizer_optimizer, STEPS, config.batch_size)
        size = config.tokenizer.image_size

        def extra():
            return {**(objective.start(size) or {}), **care.start()} or None

        state = state_shapes(tokenizer_shapes(config), optimizer, training.ema_decay, extra)
        batch = {"image": batch_shape((config.batch_size, *size, 3), jnp.float32)}
        step = make_tokenizer_step(tokenizer, optimizer, training, objective, care=care)
        follow = make_tokenizer_update(optimizer, training, objective)
        judged, names = None, ["loss"]
        if adversary is not None:
            judged = state.extra[KEPT]["params"]
            logits = (f"{name}_logits" for name in state.extra[KEPT]["numbers"])
            names += ["discriminator_loss", *logits]
        metrics = dict.fromkeys(names, jax.ShapeDtypeStruct((), jnp.float32))
        self.step = step, state, batch, _replicated(backbone)
        self.update = jax.jit(follow, donate_argnums=0), state, state.params, judged, metrics


def _replicated(backbone: Backbone | None) -> Params | None:
    """The shapes of the parameters of LPIPS, whole on every device; None without it."""
    if backbone is None:
        return None
    sharding = NamedSharding(jax.sharding.get_mesh(), PartitionSpec())
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        lpips_shapes(backbone),
    )
