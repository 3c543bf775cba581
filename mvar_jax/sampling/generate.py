"""The loop over scales: from conditions to tokens and images, without recomputation."""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from einops import rearrange
from jax.sharding import get_abstract_mesh

from mvar_jax.array_types import Array, Float, Leaf, in_32_bits
from mvar_jax.checks import check
from mvar_jax.mesh.axes import batch_axes, devices_along
from mvar_jax.models import Conditioning, Memory
from mvar_jax.models.conditioner import guidance_rows
from mvar_jax.ops.implementations import platform
from mvar_jax.sampling.guidance import guide, guide_after
from mvar_jax.sampling.request import Request, Sampler, Weights, drawing
from mvar_jax.tokenizers import Tokens

PIXELS_AT_ONCE = 2**20
CPU_PIXELS_AT_ONCE = 100_000  # on CPUs more at once take longer
TPU_IMAGES_AT_ONCE = 8  # at least, or one
Noise = Callable[[Array, int, int], Array]


@flax.struct.dataclass
class Carried:
    """What is carried from scale to scale."""

    conditioning: Conditioning
    memory: Memory
    running: Leaf  # the sum of all codes so far, [batch, h, w, code]
    inputs: Leaf  # of the trunk at the next scale, [2 batch, n, code]; None before the first
    given: Leaf | None = None  # the sum of all given codes so far, where a request holds them
    drafted: tuple[Leaf, ...] = ()  # the inputs of the scales that were drafted, for the own trunk


class Step(NamedTuple):
    """The results of one scale."""

    logits: Array  # guided, before temperature and filters, [batch, n, logits]
    tokens: Tokens  # [batch, n]; with smooth, the most likely code of each mixture
    running: Array  # the sum of all codes so far, [batch, h, w, code]
    memory: Memory  # what the next scale inherits


class Generation(NamedTuple):
    """Images in [-1, 1], `[batch, height, width, 3]` float32, and their tokens per scale."""

    images: Array
    tokens: tuple[Tokens, ...]


def begin(sampler: Sampler, weights: Weights, request: Request) -> Carried:
    """What is carried into the first scale: the prepared condition and an empty memory."""
    schedule, batch = sampler.scales, request.keys.shape[0]
    check(
        request.forced is None or len(request.forced) == len(schedule),
        f"forced: got tokens of {len(request.forced or ())} scales, expected {len(schedule)}.",
    )
    held = [forced.held is not None for forced in request.forced or ()]
    check(
        len(set(held)) < 2,
        f"forced: got held at {sum(held)} of {len(held)} scales, expected it at all or none.",
    )
    conditioning, memory = _prepared(*drawing(sampler, weights, 0), request)
    nothing = sampler.tokenizer.bind({"params": weights.tokenizer}).start(batch, schedule)
    return Carried(
        conditioning=conditioning,
        memory=memory,
        running=nothing,
        inputs=None,
        given=nothing if any(held) else None,
    )


def _prepared(sampler, weights, request) -> tuple[Conditioning, Memory]:
    """The condition as the trunk takes it, and the trunk's empty memory."""
    trunk = sampler.trunk.bind(weights.variables)
    negative = request.negative
    null = trunk.null(request.condition) if negative is None else negative
    memory = trunk.empty_memory(
        2 * request.keys.shape[0], weights.compression, schedule=sampler.scales
    )
    return trunk.prepare(guidance_rows(request.condition, null)), memory


def draw_scale(
    sampler: Sampler,
    weights: Weights,
    request: Request,
    carried: Carried,
    scale: int,
    noise: Noise | None = None,
) -> tuple[Carried, Step]:
    """Draws one scale; returns what the next one needs, and the results.

    sampler, weights, request: the models, their parameters, and what to draw.
    carried: from the scale before, or from `begin`.
    scale: index of the scale, static.
    noise: a function `(keys, scale, tokens)` in place of that of the token space. By default the
        noise of a token depends on the image's key, the scale and the position.
    """
    schedule = sampler.scales
    tokenizer = sampler.tokenizer.bind({"params": weights.tokenizer})
    logits, memory = _predict(*drawing(sampler, weights, scale), request, carried, scale)
    tokens, codes = _draw_tokens(sampler, tokenizer, request, logits, scale, noise)
    running, inputs = tokenizer.accumulate(carried.running, codes, scale, schedule)
    given = carried.given
    if given is not None and request.forced is not None:
        forced = request.forced[scale]
        given, _ = tokenizer.accumulate(given, tokenizer.embed(forced.tokens), scale, schedule)
        running = forced.sum_of(running, given)
        inputs = tokenizer.next_input(running, scale, schedule)
    if inputs is not None:
        inputs = jnp.repeat(inputs, 2, axis=0)
    after = replace(carried, memory=memory, running=running, inputs=inputs, given=given)
    draft = sampler.draft
    if draft is not None and scale < draft.scales < len(schedule):
        after = replace(after, drafted=(*carried.drafted, carried.inputs))
        if scale + 1 == draft.scales:
            after = _handed_over(*drawing(sampler, weights, scale + 1), request, after)
    return after, Step(logits, tokens, running, after.memory)


def _draw_tokens(sampler, tokenizer, request, logits, scale, noise) -> tuple[Tokens, Array]:
    """The tokens of one scale and their codes, drawn from guided logits or given."""
    space, filters = tokenizer.token_space, jax.tree.map(jnp.asarray, request.filters)
    forced = None if request.forced is None else request.forced[scale]
    logits, spared = tempered(request, logits, scale), None
    if forced is None or forced.noise is None:
        drawn = (noise or space.noise)(request.keys, scale, logits.shape[1])
    else:
        drawn, spared = forced.noise, forced.tokens
    kept = space.filter(logits, filters.top_k, filters.top_p, spared)
    tokens = space.sample(kept, drawn)
    codes = tokenizer.embed(tokens)
    if sampler.smooth:
        progress = scale / max(len(sampler.scales) - 1, 1)
        codes = tokenizer.mix(space.mixture(kept, drawn, progress))
    if forced is not None:
        tokens = forced.tokens_of(tokens)
        codes = forced.codes_of(codes, tokenizer.embed(forced.tokens))
    return tokens, codes


def tempered(request: Request, logits: Array, scale: int) -> Array:
    """The guided logits of a scale over its temperature: those that tokens are drawn from."""
    return logits / jnp.asarray(request.filters.temperature)[scale]


def _predict(sampler, weights, request, carried, scale) -> tuple[Array, Memory]:
    """The guided logits of one scale, and the trunk's memory for the next."""
    trunk = sampler.trunk.bind(weights.variables)
    strength = jnp.asarray(request.filters.guidance)[scale]
    layer, after_block = sampler.guidance_layer, None
    if layer:
        after_block = partial(guide_after, layer=layer, strength=strength)
    logits, memory = trunk.decode_scale(
        carried.conditioning,
        carried.inputs,
        scale,
        carried.memory,
        schedule=sampler.scales,
        after_block=after_block,
    )
    return guide(logits, 0.0 if layer else strength), memory


def _handed_over(sampler, weights, request, carried) -> Carried:
    """What the own trunk carries on, having read the drafted scales in place of drawing them.

    It reads what it would have been given, scale by scale: so it remembers what it would have,
    guidance inside its blocks and the choices of a cache policy included.
    """
    conditioning, memory = _prepared(sampler, weights, request)
    for scale, inputs in enumerate(carried.drafted):
        read = Carried(conditioning, memory, carried.running, inputs)
        _, memory = _predict(sampler, weights, request, read, scale)
    return replace(carried, conditioning=conditioning, memory=memory, drafted=())


def generate_scales(
    sampler: Sampler, weights: Weights, request: Request, *, noise: Noise | None = None
) -> Iterator[Step]:
    """Yields a `Step` after every scale, coarse to fine; can be traced or run eagerly."""
    carried = begin(sampler, weights, request)
    for scale in range(len(sampler.scales)):
        carried, step = draw_scale(sampler, weights, request, carried, scale, noise)
        yield step


@partial(jax.jit, static_argnames="sampler")
def generate(sampler: Sampler, weights: Weights, request: Request) -> Generation:
    """Images for conditions, all scales in one program.

    An image depends on its own key and condition only, not on the other images of the batch.
    """
    steps = list(generate_scales(sampler, weights, request))
    return Generation(
        _decode(sampler, weights, steps[-1].running), tuple(step.tokens for step in steps)
    )


@partial(jax.jit, static_argnames="sampler")
def grow(
    sampler: Sampler, weights: Weights, request: Request
) -> Float[Array, "scales batch _ _ 3"]:
    """The images of `generate` after every scale; the last ones are those of `generate`.

    Scales are decoded one after another, so that decoding needs no more memory.
    """
    steps = generate_scales(sampler, weights, request)
    running = jnp.stack([step.running for step in steps])
    return jax.lax.map(partial(_decode, sampler, weights), running)


def stream(
    sampler: Sampler, weights: Weights, request: Request
) -> Iterator[tuple[Float[Array, "batch _ _ 3"], Tokens]]:
    """Yields images and tokens after every scale, as soon as they are drawn.

    The results are those of `generate`. There is one program per scale, and what is carried is
    donated to the next one. Images are decoded by one program for all scales.
    """
    weights = weights.with_kernels()
    carried = _begin(sampler, weights, request)
    for scale in range(len(sampler.scales)):
        with warnings.catch_warnings():
            # A cache grows from scale to scale, so the memory of the smaller one cannot be reused.
            warnings.filterwarnings("ignore", "Some donated buffers were not usable")
            carried, tokens = _draw_scale(sampler, weights, request, carried, scale)
        yield decode(sampler, weights, carried.running), tokens


_begin = in_32_bits(jax.jit(begin, static_argnames="sampler"))


@in_32_bits
@partial(jax.jit, static_argnames=("sampler", "scale"), donate_argnames="carried")
def _draw_scale(sampler, weights, request, carried, scale):
    carried, step = draw_scale(sampler, weights, request, carried, scale)
    return carried, step.tokens


def decoded_parts(sampler: Sampler, batch: int) -> int:
    """In how many parts a batch of images is decoded, one after another, on the ambient mesh.

    A device decodes so many at a time that they have at most `PIXELS_AT_ONCE`, since a decoder's
    activations take 2 to 4 KB per pixel; CPUs at most `CPU_PIXELS_AT_ONCE`. Of less than
    `TPU_IMAGES_AT_ONCE` the compiler for TPUs makes a larger batch, by cutting rows of their maps:
    a few images then move up to four times the bytes that each of many moves, one up to twice.
    """
    most = CPU_PIXELS_AT_ONCE if platform() == "cpu" else PIXELS_AT_ONCE
    pixels = math.prod(sampler.scales.last) * sampler.tokenizer.config.stride**2
    own = batch // devices_along(batch_axes(batch), get_abstract_mesh())
    sizes = [n for n in range(1, own + 1) if own % n == 0 and n * pixels <= most]
    if platform() == "tpu":
        sizes = [n for n in sizes if n == 1 or n >= TPU_IMAGES_AT_ONCE]
    return own // max(sizes, default=1)


def _decode(sampler, weights, running):
    tokenizer = sampler.tokenizer.bind({"params": weights.tokenizer})
    parts = decoded_parts(sampler, len(running))
    if parts == 1:
        return tokenizer.decode(running)
    # A part has every `parts`-th image, so that it is on all devices.
    split = rearrange(running, "(rows parts) ... -> parts rows ...", parts=parts)
    images = jax.lax.map(tokenizer.decode, split)
    return rearrange(images, "parts rows ... -> (rows parts) ...")


decode = in_32_bits(jax.jit(_decode, static_argnames="sampler"))
"""Images of what was drawn: `decode(sampler, weights, running)`, jitted."""
