"""The real sampler of a config, compiled for a topology, and the cost of its parts."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, no_type_check

import jax

from mvar_jax.cache import AttentionShape, Compression, Profile, prepare_compression
from mvar_jax.compilation.chips import Options
from mvar_jax.compilation.program import (
    Advance,
    Instruction,
    Program,
    batch_shape,
    example_conditions,
)
from mvar_jax.compilation.report import Part, Report
from mvar_jax.compilation.topology import get_chip, topology_devices
from mvar_jax.config import Config
from mvar_jax.evaluation.made_up import made_up_profile
from mvar_jax.mesh.sharding import BatchLayout, make_mesh
from mvar_jax.models import Trunk, build_trunk
from mvar_jax.models.flops import matmul_flops
from mvar_jax.ops.noise import make_key
from mvar_jax.ops.parts import in_one_part
from mvar_jax.sampling import Filters, Request, Sampler, Weights, generate, generate_scales
from mvar_jax.sampling.generate import begin, decoded_parts
from mvar_jax.scales import ScaleSchedule
from mvar_jax.training.placement import with_shardings
from mvar_jax.training.weights import narrowed_trunk_shapes, tokenizer_shapes

Plan = Callable[[ScaleSchedule, AttentionShape], Compression]


def policy_plan(policy: str, profile: Profile | None, **size: Any) -> Plan:
    """What makes the compression of a policy, for `check_sampling`; `size` is a ratio or a budget.

    Without a profile all layers are alike (`CachePlan.alike`), of the mean sizes that the policy
    gives them by made-up statistics. Layers of unlike sizes take long to compile.
    """

    def plan(schedule: ScaleSchedule, shape: AttentionShape) -> Compression:
        own = profile or made_up_profile(schedule, shape)
        exact = prepare_compression(policy, schedule, shape, profile=own, **size)
        return exact if profile else replace(exact, plan=exact.plan.alike())

    return plan


def check_sampling(config: Config, topology: str, plan: Plan | None, *, advance: Advance) -> Report:
    """Compiles the sampler of `batch_size` images, from labels or texts to images, and its parts.

    `plan` makes the cache's compression for a trunk's attention. A repetition of the pattern is
    measured as the difference between a trunk of one repetition, unrolled, and one without blocks,
    the decoder alone. Both rows of an image, with and without its condition, count as the model's.
    `advance` is told of every program that is compiled, `PROGRAMS` in all. Raises ValueError for a
    topology, mesh and batch that do not fit.
    """
    chip, devices = get_chip(topology), topology_devices(topology)
    mesh = make_mesh(config.mesh, devices)
    BatchLayout(mesh).check_batch(config.batch_size, 1)
    with jax.set_mesh(mesh):
        start = time.monotonic()
        drawing = _Drawing(config, plan, build_trunk(config))
        whole = Program(
            partial(generate, drawing.sampler),
            *(drawing.weights, drawing.request),
            options=chip.compiler.options,
        )
        advance()
        seconds = time.monotonic() - start
        options = chip.compiler.estimate_options
        parts, heaviest = sampling_parts(config, plan, options, advance=advance)
    flops = matmul_flops(config.model, config.tokenizer.schedule, build_trunk(config).logits)
    flops *= 2 * config.batch_size
    return Report(topology, len(devices), chip, whole.memory, parts, flops, seconds, heaviest)


def sampling_parts(
    config: Config, plan: Plan | None, options: Options, *, advance: Advance = lambda: None
) -> tuple[list[Part], list[Instruction]]:
    """What `batch_size` images cost on the ambient mesh, and a block's heaviest instructions.

    The parts are a repetition of the pattern, what else all scales take, and the decoder, compiled
    with `options`.
    """
    pattern = config.model.pattern
    short = replace(
        config,
        model=replace(config.model, depth=len(pattern), scan=False),
        sampling=replace(config.sampling, guidance_layer=0),  # which may lie beyond this depth
    )
    drawing = _Drawing(short, plan, build_trunk(short))
    one = drawing.scales_program(options)
    advance()
    rest = _Drawing(short, plan, _without_blocks(build_trunk(short))).scales_program(options)
    advance()
    times, decoder = drawing.decoder_program(options)
    advance()
    parts = [
        Part(f"block {' and '.join(pattern)}", one.cost - rest.cost, config.model.repeats),
        Part("embedding, head, tokens", rest.cost),
        Part("decoder", decoder.cost, times),
    ]
    return parts, one.heaviest()


@no_type_check
class _WithoutBlocks(Trunk):
    """Embedding and head of a trunk."""

    def _run(self, x, conditioning, context, memory, drops=None, after_block=None):
        return x, memory


def _without_blocks(trunk: Trunk) -> Trunk:
    return _WithoutBlocks(trunk.config, trunk.schedule, trunk.logits, trunk.code_channels)


class _Drawing:
    """A sampler and the shapes of what it draws from, on the ambient mesh."""

    def __init__(self, config: Config, plan: Plan | None, trunk: Trunk):
        self.sampler = replace(Sampler.of(config), trunk=trunk)
        compression = None
        if plan is not None and trunk.attention_shape.layers:
            compression = plan(self.sampler.scales, trunk.attention_shape)
        self.weights = Weights(
            with_shardings(narrowed_trunk_shapes(config)),
            with_shardings(tokenizer_shapes(config)),
            compression,
        )
        # The devices of the mesh need not exist, so not even a key can be computed.
        keys = batch_shape((config.batch_size,), jax.eval_shape(make_key, 0).dtype)
        filters = Filters.of(config.sampling, len(self.sampler.scales))
        conditions = example_conditions(config.model, config.batch_size)
        self.request = Request(conditions, keys, filters)

    def scales_program(self, options: Options) -> Program:
        """All scales, without the decoder."""

        def draw(weights, request):
            steps = list(generate_scales(self.sampler, weights, request))
            return steps[-1].running, tuple(step.tokens for step in steps)

        with in_one_part():
            return Program(draw, self.weights, self.request, options=options)

    def decoder_program(self, options: Options) -> tuple[int, Program]:
        """In how many parts the images are decoded, and the program for one of them."""
        begun = jax.eval_shape(partial(begin, self.sampler), self.weights, self.request)
        batch, *shape = begun.running.shape
        parts = decoded_parts(self.sampler, batch)
        running = batch_shape((batch // parts, *shape), begun.running.dtype)

        def decode(params, running):
            return self.sampler.tokenizer.bind({"params": params}).decode(running)

        with in_one_part():
            return parts, Program(decode, self.weights.tokenizer, running, options=options)
