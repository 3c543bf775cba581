"""The real sampler of a config, compiled for a topology, and the cost of its parts."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax

from mvar_jax.cache import AttentionShape, Compression
from mvar_jax.compilation.chips import get_chip, topology_devices
from mvar_jax.compilation.program import (
    WHOLE_PRODUCTS,
    Program,
    by_image,
    example_conditions,
    split_cost,
)
from mvar_jax.compilation.report import Part, Report
from mvar_jax.config import Config
from mvar_jax.mesh.sharding import BatchLayout, make_mesh
from mvar_jax.models import build_trunk
from mvar_jax.models.flops import matmul_flops
from mvar_jax.ops.noise import make_key
from mvar_jax.sampling import Filters, Request, Sampler, Weights, generate
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers import build_tokenizer
from mvar_jax.training.placement import with_shardings
from mvar_jax.training.weights import tokenizer_shapes, trunk_shapes

Plan = Callable[[ScaleSchedule, AttentionShape], Compression]


def check_sampling(config: Config, topology: str, plan: Plan | None = None) -> Report:
    """Compiles the sampler of `batch_size` images, from labels or texts to images.

    `plan` makes the cache's compression for a trunk's attention. The parts are measured as by
    `check_training`. Both rows of an image, with and without its condition, count as useful.
    Raises ValueError for a topology, mesh and batch that do not fit.
    """
    chip, devices = get_chip(topology), topology_devices(topology)
    mesh = make_mesh(config.mesh, devices)
    BatchLayout(mesh).check_batch(config.batch_size, 1)
    with jax.set_mesh(mesh):
        start = time.monotonic()
        whole = _program(config, plan)
        seconds = time.monotonic() - start
        pattern = config.model.pattern
        one, two = (
            _program(
                replace(config, model=replace(config.model, depth=depth, scan=False)),
                plan,
                WHOLE_PRODUCTS,
            )
            for depth in (len(pattern), 2 * len(pattern))
        )
        layer, rest = split_cost(one, two)
    parts = [
        Part(f"block {' and '.join(pattern)}", layer, config.model.depth // len(pattern)),
        Part("embedding, head, tokens, decoder", rest),
    ]
    flops = matmul_flops(config.model, config.tokenizer.schedule, build_trunk(config).logits)
    useful = 2 * config.batch_size * flops
    memory, heaviest = whole.memory, one.heaviest()
    return Report(topology, len(devices), chip, memory, parts, useful, seconds, heaviest)


def _program(config: Config, plan: Plan | None, options: dict[str, str] | None = None) -> Program:
    sampler = Sampler(
        build_trunk(config), build_tokenizer(config.tokenizer), smooth=config.sampling.smooth
    )
    shapes = (with_shardings(trunk_shapes(config)), with_shardings(tokenizer_shapes(config)))
    # The devices of the mesh need not exist, so not even a key can be computed.
    keys = by_image((config.batch_size,), jax.eval_shape(make_key, 0).dtype)
    filters = Filters.of(config.sampling, len(sampler.scales))
    request = Request(example_conditions(config.model, config.batch_size), keys, filters)
    compression = None
    if plan is not None and sampler.trunk.attention_shape.layers:
        compression = plan(sampler.scales, sampler.trunk.attention_shape)
    return Program(
        partial(generate, sampler), Weights(*shapes, compression), request, options=options
    )
