"""The real training step of a config, compiled for a topology, and the cost of its parts."""

import time
from dataclasses import fields, replace

import jax
import jax.numpy as jnp

from mvar_jax.compilation.chips import Options
from mvar_jax.compilation.program import (
    Advance,
    Instruction,
    Program,
    batch_shape,
    example_conditions,
    split_cost,
)
from mvar_jax.compilation.report import Part, Report
from mvar_jax.compilation.topology import get_chip, topology_devices
from mvar_jax.config import Config
from mvar_jax.mesh.sharding import BatchLayout, make_mesh
from mvar_jax.models import build_trunk
from mvar_jax.models.flops import TRAINING_FACTOR, matmul_flops
from mvar_jax.tokenizers import build_tokenizer
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.placement import with_shardings
from mvar_jax.training.state import state_shapes
from mvar_jax.training.step import Frozen, make_trunk_gradient, make_trunk_step, update
from mvar_jax.training.weights import adapter_shapes, tokenizer_shapes, trunk_shapes

STEPS = 100_000  # length of the schedules; any number gives the same program


def check_training(config: Config, topology: str, *, advance: Advance) -> Report:
    """Compiles the update of the trunk, from tokens, and its parts.

    The whole step is compiled as it runs, with layers under scan. The compiler's cost analysis
    counts the body of a scan once, so costs come from gradients with one and with two unrolled
    repetitions of the pattern: their difference is a repetition, the remainder embedding and head.
    The optimizer is compiled alone. `advance` is told of every program that is compiled, `PROGRAMS`
    in all. Raises ValueError for a topology, mesh and batch that do not fit; errors of the
    compiler, such as too little memory, are not caught.
    """
    chip, devices = get_chip(topology), topology_devices(topology)
    mesh = make_mesh(config.mesh, devices)
    BatchLayout(mesh).check_batch(config.batch_size, config.training.accumulate)
    with jax.set_mesh(mesh):
        start = time.monotonic()
        step = TrainingPrograms(config)
        options = chip.compiler.options
        whole = Program(step.whole, step.state, step.batch, step.frozen, options=options)
        advance()
        seconds = time.monotonic() - start
        options = chip.compiler.estimate_options
        parts, heaviest = training_parts(config, options, advance=advance)
    flops = matmul_flops(config.model, config.tokenizer.schedule, build_trunk(config).logits)
    flops *= TRAINING_FACTOR * config.batch_size
    return Report(topology, len(devices), chip, whole.memory, parts, flops, seconds, heaviest)


def training_parts(
    config: Config, options: Options, *, advance: Advance = lambda: None
) -> tuple[list[Part], list[Instruction]]:
    """What an update costs on the ambient mesh, and a block's heaviest instructions.

    The parts are a repetition of the pattern, the rest, and the optimizer, compiled with `options`.
    """
    times, step = config.training.accumulate, TrainingPrograms(config)
    programs = []
    for repeats in (1, 2):
        programs.append(_gradient_program(config, repeats, options))
        advance()
    one, two = programs
    layer, rest = split_cost(one, two)
    optimizer = Program(step.update, step.state, step.state.params, options=options).cost
    advance()
    name = " and ".join(config.model.pattern)
    parts = [
        Part(f"block {name}", layer, times * config.model.depth // len(config.model.pattern)),
        Part("embedding and head", rest, times),
        Part("optimizer", optimizer),
    ]
    return parts, one.heaviest()


def _gradient_program(config: Config, repeats: int, options: Options) -> Program:
    """Gradients of one part of the batch, with `repeats` unrolled repetitions of the pattern."""
    model = replace(config.model, depth=repeats * len(config.model.pattern), scan=False)
    size = config.batch_size // config.training.accumulate
    training = replace(config.training, accumulate=1)
    step = TrainingPrograms(replace(config, model=model, training=training, batch_size=size))
    arguments = (step.state.params, step.state.step, step.batch, step.frozen)
    return Program(step.gradient, *arguments, options=options)


class TrainingPrograms:
    """The functions of a training step and the shapes of their arguments, on the ambient mesh."""

    def __init__(self, config: Config):
        trunk, tokenizer = build_trunk(config), build_tokenizer(config.tokenizer)
        training = config.training
        self.optimizer = optimizer = make_optimizer(config.optimizer, STEPS, config.batch_size)
        self.whole = make_trunk_step(trunk, tokenizer, optimizer, config=training, seed=config.seed)
        self.gradient = make_trunk_gradient(trunk, tokenizer, training, seed=config.seed)
        trained = adapter_shapes(config) if config.adapter.rank else trunk_shapes(config)
        self.state = state_shapes(trained, optimizer, training.ema_decay)
        self.frozen = Frozen(
            with_shardings(tokenizer_shapes(config)),
            with_shardings(trunk_shapes(config)) if config.adapter.rank else None,
            config.adapter.strength,
        )
        self.batch = _example_batch(config)

        def follow(state, gradients):
            metrics = {"loss": jnp.float32(0)}
            return update(
                state, gradients, metrics, optimizer=optimizer, ema_decay=training.ema_decay
            )

        self.update = jax.jit(follow, donate_argnums=0)


def _example_batch(config: Config) -> dict[str, jax.ShapeDtypeStruct]:
    """A batch of tokens, or of images where tokens are of bits, with labels or texts."""
    batch_size = config.batch_size
    condition = example_conditions(config.model, batch_size)
    height, width = config.tokenizer.image_size
    data = {"image": batch_shape((batch_size, height, width, 3), jnp.float32)}
    if config.tokenizer.quantizer == "vq":
        total = config.tokenizer.schedule.total
        data = {"tokens": batch_shape((batch_size, total), jnp.int32)}
    return data | {field.name: getattr(condition, field.name) for field in fields(condition)}
