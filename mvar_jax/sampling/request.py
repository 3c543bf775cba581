"""The inputs of sampling: the models, their weights, and the request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float, Int, Leaf, Params, PyTree, batch_size
from mvar_jax.cache import Compression
from mvar_jax.checks import check
from mvar_jax.config import Config, SamplingConfig
from mvar_jax.models import Condition, Trunk, build_trunk
from mvar_jax.models.layer_kernels import kernels_by_layer
from mvar_jax.ops.noise import image_keys
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers import Tokenizer, Tokens, build_tokenizer


@dataclass(frozen=True)
class Draft:
    """Another trunk on the same tokens, which draws the first `scales` scales; static under jit.

    A large one drafts, a small one refines (CoDe, arXiv 2411.17787).
    """

    trunk: Trunk
    scales: int


@dataclass(frozen=True)
class Sampler:
    """A trunk and a tokenizer without their parameters, and the schedule; static under jit.

    `schedule` None is the trunk's own. `smooth` mixes codes instead of drawing tokens.
    `guidance_layer` 0 guides the logits, k the tokens after the first k blocks instead. With a
    `draft`, the trunk draws what the draft leaves.
    """

    trunk: Trunk
    tokenizer: Tokenizer
    schedule: ScaleSchedule | None = None
    smooth: bool = False
    guidance_layer: int = 0
    draft: Draft | None = None

    @classmethod
    def of(cls, config: Config) -> "Sampler":
        """The sampler of a config's trunk and tokenizer, by its settings of sampling."""
        return cls(
            build_trunk(config),
            build_tokenizer(config.tokenizer),
            smooth=config.sampling.smooth,
            guidance_layer=config.sampling.guidance_layer,
        )

    @property
    def scales(self) -> ScaleSchedule:
        """The scales to draw."""
        return self.schedule or self.trunk.schedule


@flax.struct.dataclass
class Weights:
    """The parameters of trunk and tokenizer.

    With a `compression`, the trunk's heads are in the order of its plan (`models.heads`), and
    attention over the history caches what its policy keeps. `draft` is of the sampler's draft, on
    the same tokenizer. `kernels` are the trunk's, layer by layer, for the length of a call: whoever
    runs programs adds them (`with_kernels`), since another trunk has others.
    """

    trunk: Params
    tokenizer: Params
    compression: Compression | None = None
    draft: "Weights | None" = None
    kernels: Params | None = None

    def with_kernels(self) -> "Weights":
        """The same with `kernels` of its trunk and its draft's; see `models.layer_kernels`."""
        draft = None if self.draft is None else self.draft.with_kernels()
        return replace(self, kernels=kernels_by_layer(self.trunk), draft=draft)

    @property
    def variables(self) -> dict[str, Params]:
        """What the trunk is bound to."""
        kernels = {} if self.kernels is None else {"kernels": self.kernels}
        return {"params": self.trunk, **kernels}


def drawing(sampler: Sampler, weights: Weights, scale: int) -> tuple[Sampler, Weights]:
    """The sampler and weights of the one trunk that draws a scale, of the draft or the own."""
    alone, own = replace(sampler, draft=None), replace(weights, draft=None)
    if sampler.draft is None or scale >= sampler.draft.scales:
        return alone, own
    assert weights.draft is not None  # the draft's weights come with it
    return replace(alone, trunk=sampler.draft.trunk, schedule=sampler.scales), weights.draft


@flax.struct.dataclass
class Filters:
    """How tokens are drawn from the trunk's logits, scale by scale.

    All are traced: changing them does not compile again.
    """

    guidance: Leaf  # float32 [scales], 0 for none
    temperature: Leaf  # float32 [scales], divides the logits
    top_k: Leaf  # int32 scalar, 0 for all
    top_p: Leaf  # float32 scalar, 0 for all

    @classmethod
    def of(cls, config: SamplingConfig, scales: int) -> "Filters":
        """From a validated config, for `scales` scales.

        With its ramp, guidance grows linearly from 0 at the first scale to its full value at the
        last.
        """
        ramp = np.array([scale / max(scales - 1, 1) for scale in range(scales)], np.float32)
        ramp = ramp if config.guidance_ramp else np.ones_like(ramp)
        return cls(
            guidance=np.float32(config.guidance) * ramp,
            temperature=np.full(scales, config.temperature, np.float32),
            top_k=np.int32(config.top_k),
            top_p=np.float32(config.top_p),
        )


@flax.struct.dataclass
class Forced:
    """What is given at one scale instead of drawn: tokens, where the mask is not 0.

    A mask between 0 and 1 mixes the codes of both, for soft edges; the returned token is then the
    given one if the mask is at least 1/2. With `held`, which is given at all scales or at none, the
    sum of codes after the scale is that of the given tokens of all scales so far, whatever their
    masks: to keep a part of an image, its coarse tokens drawn anew. With `noise` the other tokens
    are drawn with it, and filters spare the given tokens (see `sampling.inversion`).
    """

    tokens: Leaf  # in the tokenizer's dtype, [batch, n]
    mask: Leaf  # float32 [batch, n], from 0 (drawn) to 1 (given)
    held: Leaf | None = None  # float32 [batch, h, w] of the map of codes, from 0 to 1 (held)
    noise: Leaf | None = None  # of the token space, in place of that of the images' keys

    def tokens_of(self, drawn: Tokens) -> Tokens:
        """The given tokens where the mask is at least 1/2, otherwise the drawn ones."""
        return jnp.where(self._over(self.mask >= 0.5, drawn), self.tokens, drawn)

    def codes_of(
        self, drawn: Float[Array, "batch n code"], given: Float[Array, "batch n code"]
    ) -> Float[Array, "batch n code"]:
        """The codes of both, mixed by the mask; exactly those of one where it is 0 or 1."""
        return _mixed(self._over(self.mask, drawn), drawn, given)

    def sum_of(
        self, drawn: Float[Array, "batch h w code"], given: Float[Array, "batch h w code"]
    ) -> Float[Array, "batch h w code"]:
        """The sums of codes of both, mixed by `held`; exactly those of one where it is 0 or 1."""
        assert self.held is not None
        return _mixed(jnp.expand_dims(self.held, -1), drawn, given)

    @staticmethod
    def _over(mask, array):
        """The mask with trailing axes for the further axes of tokens or codes."""
        return jnp.reshape(mask, (*jnp.shape(mask), *(1,) * (array.ndim - 2)))


def _mixed(share: Array, one: Array, other: Array) -> Array:
    """The first where the share is 0, the other where it is 1, between them a weighted mean."""
    mixed = (1 - share) * one + share * other
    return jnp.where(share == 0, one, jnp.where(share == 1, other, mixed))


@flax.struct.dataclass
class Request:
    """What to draw: a batch of images, each with its condition and its key."""

    condition: Condition  # of every image
    keys: Leaf  # a random key per image, [batch]
    filters: Filters
    forced: Sequence[Forced] | None = None  # one per scale
    negative: Condition | None = None  # what guidance leads away from; None is no condition


@flax.struct.dataclass
class NumberedRequest:
    """A request whose keys are computed from a seed and a number per image."""

    condition: Condition  # of every image
    seed: Leaf  # uint32 scalar
    numbers: Leaf  # uint32 [batch]
    filters: Filters
    forced: Sequence[Forced] | None = None
    negative: Condition | None = None

    def request(self) -> Request:
        """The request with keys."""
        keys = image_keys(jnp.asarray(self.seed), self.numbers)
        return Request(self.condition, keys, self.filters, self.forced, self.negative)

    def images(self, rows: Int[np.ndarray, "picked"]) -> "NumberedRequest":
        """The request for some of the images, by their rows."""
        per_image = (self.condition, self.numbers, self.forced, self.negative)
        condition, numbers, forced, negative = _rows(per_image, rows)
        return NumberedRequest(condition, self.seed, numbers, self.filters, forced, negative)


def forced_for(forced: Sequence[Forced], count: int) -> tuple[Forced, ...]:
    """What is given for every one of `count` images: what is of one image is repeated.

    Raises ValueError for any other number of images.
    """
    given = batch_size(forced)
    check(
        given in (1, count),
        f"forced: got tokens of {given} images for {count}, expected 1 or {count}.",
    )
    return _rows(tuple(forced), np.arange(count) % given)


def split_request(request: Request, size: int) -> Iterator[Request]:
    """The images of a request, `size` at a time; the last part may be smaller."""
    for first in range(0, request.keys.shape[0], size):
        own = slice(first, first + size)
        per_image = (request.condition, request.keys, request.forced, request.negative)
        condition, keys, forced, negative = _rows(per_image, own)
        yield Request(condition, keys, request.filters, forced, negative)


def _rows(tree: PyTree, rows: slice | Int[np.ndarray, "picked"]) -> PyTree:
    return jax.tree.map(lambda array: array[rows], tree)


def batch_rows(count: int, size: int) -> Iterator[Int[np.ndarray, "size"]]:
    """The rows of `count` images in batches of one size, so that one program serves all.

    The last batch is padded with the last image.
    """
    for first in range(0, count, size):
        yield np.minimum(np.arange(first, first + size), count - 1)
