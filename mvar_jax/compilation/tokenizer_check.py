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
from mvar_jax.training.adversary import Adversary
from mvar_jax.training.codebook import CodebookCare
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.state import state_shapes
from mvar_jax.training.tokenizer_step import Objective, make_tokenizer_step
from mvar_jax.training.weights import tokenizer_shapes

STEPS = 100_000  # length of the schedules; any number gives the same program


def tokenizer_programs(config: Config) -> int:
    """How many programs the check of a config compiles."""
    return 1 if config.tokenizer_training.accumulate == 1 else 3


def check_tokenizer_training(config: Config, topology: str, *, advance: Advance) -> Report:
    """Compiles the update of the tokenizer, with its discriminator if the config has one.

    Of a batch in parts the compiler's cost analysis counts one: what one costs is the difference of
    updates by the images of two parts and of one at once, the remainder that of the optimizers.
    The model's own FLOPs are not counted, so utilisation is of all that the program computes.
    `advance` is told of every program that is compiled, `tokenizer_programs` in all. Raises
    ValueError for a topology, mesh and batch that do not fit; errors of the compiler, such as too
    little memory, are not caught.
    """
    chip, devices = get_chip(topology), topology_devices(topology)
    mesh = make_mesh(config.mesh, devices)
    accumulate = config.tokenizer_training.accumulate
    BatchLayout(mesh).check_batch(config.batch_size, accumulate)
    with jax.set_mesh(mesh):
        start = time.monotonic()
        whole = _program(config, chip.compiler.options)
        seconds = time.monotonic() - start
        advance()
        parts = [Part("update", whole.cost)]
        if accumulate > 1:
            parts = _parts(config, chip.compiler.estimate_options, advance)
    return Report(topology, len(devices), chip, whole.memory, parts, None, seconds)


def _parts(config: Config, options: Options, advance: Advance) -> list[Part]:
    """A part of the batch, as often as there are, and the optimizers."""
    accumulate = config.tokenizer_training.accumulate
    own = config.batch_size // accumulate
    training = replace(config.tokenizer_training, accumulate=1)
    costs = []
    for images in (own, 2 * own):
        at_once = replace(config, batch_size=images, tokenizer_training=training)
        costs.append(_program(at_once, options).cost)
        advance()
    one, two = costs
    part = two - one
    return [Part("gradients", part, accumulate), Part("optimizers", one - part)]


def _program(config: Config, options: Options) -> Program:
    """The update of a batch, compiled for the ambient mesh."""
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
    step = make_tokenizer_step(tokenizer, optimizer, training, objective, care=care)
    batch = {"image": batch_shape((config.batch_size, *size, 3), jnp.float32)}
    return Program(step, state, batch, _replicated(backbone), options=options)


def _replicated(backbone: Backbone | None) -> Params | None:
    """The shapes of the parameters of LPIPS, whole on every device; None without it."""
    if backbone is None:
        return None
    sharding = NamedSharding(jax.sharding.get_mesh(), PartitionSpec())
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        lpips_shapes(backbone),
    )
