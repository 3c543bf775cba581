"""The loop over scales: from labels to tokens and images, nothing computed twice."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Int, Key, Leaf, Params
from mvar_jax.cache import Compression
from mvar_jax.config import SamplingConfig
from mvar_jax.models import Memory, Trunk
from mvar_jax.sampling.guidance import guidance_ramp, guide
from mvar_jax.tokenizers import VQTokenizer


@flax.struct.dataclass
class Filter:
    """The traced settings of sampling: changing them does not compile again."""

    guidance: Leaf  # a float
    top_k: Leaf  # an int
    top_p: Leaf  # a float
    temperature: Leaf  # a float

    @classmethod
    def of(cls, config: SamplingConfig) -> "Filter":
        """From a validated config."""
        return cls(config.guidance, config.top_k, config.top_p, config.temperature)


class Step(NamedTuple):
    """What is known after one scale."""

    logits: Array  # guided, before temperature and filter, [batch, n, vocab]
    tokens: Array  # [batch, n]; with smooth, the most likely code of each mixture
    running: Array  # the sum of all codes so far, [batch, h, w, code]
    memory: Memory  # what the next scale inherits


class Generation(NamedTuple):
    """Images in [-1, 1], `[batch, height, width, 3]` float32, and their tokens per scale."""

    images: Array
    tokens: tuple[Array, ...]


def generate_scales(
    trunk: Trunk,
    tokenizer: VQTokenizer,
    labels: Int[Array, "batch"],
    keys: Key[Array, "batch"],
    filters: Filter,
    smooth: bool = False,
    noise=None,
    compression: Compression | None = None,
    forced: Sequence[Int[Array, "batch _"]] | None = None,
) -> Iterator[Step]:
    """Yields a `Step` after every scale, coarse to fine. Trunk and tokenizer are bound.

    The noise of an image comes from its own key, the scale and the position. `noise`, a
    function `(keys, scale, tokens)`, replaces the token space's own. With `compression`, whose
    order the trunk's heads must be in, attention remembers what its policy keeps. `forced`
    tokens, one array a scale, take the place of drawn ones where they are not negative.
    """
    space, schedule = tokenizer.token_space, trunk.schedule
    noise = noise or space.noise
    rows = jnp.stack([labels, jnp.full_like(labels, trunk.config.num_classes)], axis=1)
    conditioning = trunk.condition(rows.reshape(-1))
    memory = trunk.empty_memory(rows.size, compression)
    running, inputs = tokenizer.start(labels.shape[0]), None
    for scale, length in enumerate(schedule.lengths):
        logits, memory = trunk.decode_scale(conditioning, inputs, scale, memory)
        logits = guide(logits, guidance_ramp(filters.guidance, scale, len(schedule)))
        kept = space.filter(logits / filters.temperature, filters.top_k, filters.top_p)
        gumbel = noise(keys, scale, length)
        tokens = space.sample(kept, gumbel)
        if forced is not None:
            tokens = jnp.where(forced[scale] < 0, tokens, forced[scale])
        codes = tokenizer.embed(tokens)
        if smooth:
            progress = guidance_ramp(1.0, scale, len(schedule))
            codes = tokenizer.mix(space.mixture(kept, gumbel, progress))
        running, inputs = tokenizer.accumulate(running, codes, scale)
        if inputs is not None:
            inputs = jnp.repeat(inputs, 2, axis=0)
        yield Step(logits, tokens, running, memory)


@partial(jax.jit, static_argnames=("trunk", "tokenizer", "smooth"))
def generate(
    trunk: Trunk,
    tokenizer: VQTokenizer,
    params: dict[str, Params],
    labels: Int[Array, "batch"],
    keys: Key[Array, "batch"],
    filters: Filter,
    smooth: bool = False,
    compression: Compression | None = None,
) -> Generation:
    """Images for labels, all scales in one program.

    `params` holds "trunk", its heads in the order of `compression` if there is any, and
    "tokenizer". An image depends on its own key and label only, not on the batch around it.
    """
    tokenizer, steps = _all_scales(
        trunk, tokenizer, params, labels, keys, filters, smooth, compression
    )
    return Generation(tokenizer.decode(steps[-1].running), tuple(step.tokens for step in steps))


@partial(jax.jit, static_argnames=("trunk", "tokenizer", "smooth"))
def grow(
    trunk: Trunk,
    tokenizer: VQTokenizer,
    params: dict[str, Params],
    labels: Int[Array, "batch"],
    keys: Key[Array, "batch"],
    filters: Filter,
    smooth: bool = False,
    compression: Compression | None = None,
) -> Float[Array, "scales batch _ _ 3"]:
    """What `generate` would draw were it to stop after each scale; the last is its images.

    Scales are decoded one after another, so this needs no more memory for decoding.
    """
    tokenizer, steps = _all_scales(
        trunk, tokenizer, params, labels, keys, filters, smooth, compression
    )
    return jax.lax.map(tokenizer.decode, jnp.stack([step.running for step in steps]))


def _all_scales(trunk, tokenizer, params, labels, keys, filters, smooth, compression):
    """The bound tokenizer, and the steps of all scales."""
    tokenizer = tokenizer.bind({"params": params["tokenizer"]})
    trunk = trunk.bind({"params": params["trunk"]})
    steps = generate_scales(trunk, tokenizer, labels, keys, filters, smooth, None, compression)
    return tokenizer, list(steps)


def image_keys(seed: int, count: int) -> Key[Array, "batch"]:
    """A random key for each of `count` images; image i's is the same whatever the count."""
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(jnp.arange(count))
