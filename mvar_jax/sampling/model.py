"""A trained model, ready to sample: what `mvar_jax.load` gives."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from mvar_jax.array_types import Float, HostArray, PyTree
from mvar_jax.cache import Profile, prepare_compression
from mvar_jax.checks import check, check_given
from mvar_jax.config import Config, SamplingConfig, reshaped
from mvar_jax.models import Condition, Trunk
from mvar_jax.models.checksum import checksum, embeddings_checksum
from mvar_jax.models.heads import order_heads
from mvar_jax.sampling.asked import Labels, Prompts, label_indices, parse_labels
from mvar_jax.sampling.batches import draw, in_batches, stream_whole
from mvar_jax.sampling.carried_bytes import cache_bytes, carried_bytes
from mvar_jax.sampling.draft import with_draft
from mvar_jax.sampling.editing import (
    STRENGTH,
    THRESHOLD,
    check_edited,
    keep_tokens,
    paste_back,
    source_of,
)
from mvar_jax.sampling.generate import generate, grow
from mvar_jax.sampling.inversion import invert
from mvar_jax.sampling.request import Forced, NumberedRequest, Sampler, Weights, forced_for
from mvar_jax.sampling.request_builder import RequestBuilder
from mvar_jax.sampling.stored_name import StoredName
from mvar_jax.text.encoder import TextEncoder
from mvar_jax.text.features import TextFeatures
from mvar_jax.tokenizers import Tokenizer

BATCH_SIZE = 100


@dataclass(frozen=True)
class Samples:
    """Images, float32 `[batch, height, width, 3]` in [-1, 1], and their tokens per scale."""

    images: np.ndarray
    tokens: tuple[np.ndarray, ...]


@dataclass(frozen=True, repr=False)
class Model:
    """A trained trunk with its tokenizer, ready to sample.

    Images are named by `(seed, number)`: image `number` of a seed depends on these two and its
    label alone, whatever is drawn with it. Drawing `labels` numbers them from 0 on; with `numbers`,
    some of them are drawn again, each with its label. Batches are filled up to few sizes, 1, 2, 4
    and so on up to `batch_size`, so that another number of labels seldom compiles anything.

    Arguments that the methods for drawing share: `labels` are class indices or class names, one or
    a list of them (a string is one name). A model of texts takes prompts in their place, or their
    `TextFeatures`, and a `negative` prompt, one or as many, that guidance leads away from. `seed`
    goes from 0 to 2**32 - 1, `settings` override the config's `sampling` by name (guidance, top_k,
    top_p, temperature, smooth, ...). `forced`, tokens that are given as `keep` does or noise as
    `invert` finds it, is of one image or of every one; with it, labels may be None, for drawing
    without a condition. Drawing raises ValueError for an unknown label or setting.
    """

    config: Config
    class_names: tuple[str, ...]
    sampler: Sampler
    weights: Weights
    policy: str = ""  # the name that the weights' compression was asked for by
    text_encoder: TextEncoder | None = None  # of prompts
    report: Callable[[int], None] = lambda count: None  # told how many images a batch drew
    stored: StoredName | None = None  # of the trunk's weights, where its kernels are narrowed
    draft: "Model | None" = None  # what draws the first scales

    @property
    def trunk(self) -> Trunk:
        """The trunk without its parameters."""
        return self.sampler.trunk

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer without its parameters."""
        return self.sampler.tokenizer

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        height, width = self.sampler.scales.last
        return height * self.config.tokenizer.stride, width * self.config.tokenizer.stride

    @property
    def feather(self) -> float:
        """Pixels over which edits fade in by default: half a token of the last scale."""
        return self.config.tokenizer.stride / 2

    def reshaped(self, *, aspect: str | None = None, pixels: str | None = None) -> "Model":
        """The same model for images of another aspect ratio, such as "1.5", or budget of pixels.

        `config.parse_aspect` finds the ratio, height / width, of "2:3". Raises ValueError for a
        model of learned positions, for what is not published, and for one with a policy or a draft.
        """
        check(
            self.config.model.positions == "rotary",
            "aspect: the positions of this model are learned for its own scales; leave out the "
            "aspect ratio and the budget of pixels.",
        )
        check(
            self.weights.compression is None and self.sampler.draft is None,
            "aspect: the model has a policy or a draft already, for its scales; shape it first.",
        )
        schedule = reshaped(self.config.tokenizer.schedule, aspect, pixels)
        return replace(self, sampler=replace(self.sampler, schedule=schedule))

    def compressed(
        self,
        policy: str,
        *,
        ratio: float | None = None,
        budget: int | None = None,
        profile: Profile | None = None,
        **settings: float | int | str | bool,
    ) -> "Model":
        """The same model with an attention cache that a policy keeps small.

        Arguments are those of `mvar_jax.cache.prepare_compression`. Raises ValueError, before
        anything is compiled, for what cannot work: a model without attention over the history, an
        unknown policy, a budget that its forced tokens fill, a profile of another model.
        """
        check(
            self.weights.compression is None,
            "the model has a policy already; start from its original.",
        )
        schedule, shape = self.sampler.scales, self.trunk.attention_shape
        self.check_remembers()
        if profile is not None:
            full = profile.names_all_weights
            name = self.checksum if full else embeddings_checksum(self.weights.trunk)
            profile.check_fits(name, schedule, *shape)
        compression = prepare_compression(
            policy, schedule, shape, ratio=ratio, budget=budget, profile=profile, **settings
        )
        trunk = order_heads(self.weights.trunk, self.trunk, compression.plan.head_order)
        weights = replace(self.weights, trunk=trunk, compression=compression)
        return replace(self, weights=weights, policy=policy)

    def drafted(self, draft: "Model", *, scales: int) -> "Model":
        """The same model, for which another draws the first `scales` scales of every image.

        A large model drafts the few tokens that decide what is seen, this small one refines them
        (CoDe, arXiv 2411.17787): it reads the drafted scales, then draws the others. Settings,
        such as guidance and temperature, are this model's. Both may have cache policies. Raises
        ValueError, as `sampling.draft.with_draft` does, and for a model of other classes.
        """
        sampler, weights = with_draft(
            self.sampler, self.weights, draft.sampler, draft.weights, scales=scales
        )
        check(
            draft.class_names == self.class_names,
            "draft: got a model of classes with other names; take one that draws the same.",
        )
        return replace(self, sampler=sampler, weights=weights, draft=draft)

    def check_remembers(self) -> None:
        """Raises ValueError for a model without attention over the history, which has no cache."""
        check(
            self.trunk.attention_shape.layers > 0,
            f"policy: blocks of {', '.join(self.config.model.pattern)} do not attend over the "
            f"history, so there is no cache to compress: an image carries "
            f"{self.carried_state_bytes()} bytes, at any scale; leave the policy out.",
        )

    def sample(
        self,
        labels: Labels | Prompts | None,
        seed: int = 0,
        *,
        numbers: int | Sequence[int] | None = None,
        negative: Prompts | None = None,
        forced: Sequence[Forced] | None = None,
        batch_size: int = BATCH_SIZE,
        **settings: float | int | bool,
    ) -> Samples:
        """Images for labels or prompts."""
        asked = self._requests.build(
            labels, seed, numbers=numbers, negative=negative, forced=forced, settings=settings
        )
        return Samples(*self._run(generate, *asked, batch_size))

    def grow(
        self,
        labels: Labels | Prompts | None,
        seed: int = 0,
        *,
        numbers: int | Sequence[int] | None = None,
        negative: Prompts | None = None,
        forced: Sequence[Forced] | None = None,
        batch_size: int = BATCH_SIZE,
        **settings: float | int | bool,
    ) -> np.ndarray:
        """Images as they are after every scale, float32 `[scales, batch, height, width, 3]`.

        They lie in [-1, 1]. The last are those that `sample` gives with the same arguments.
        """
        asked = self._requests.build(
            labels, seed, numbers=numbers, negative=negative, forced=forced, settings=settings
        )
        return self._run(grow, *asked, batch_size, axis=1)

    def stream(
        self,
        labels: Labels | Prompts | None,
        seed: int = 0,
        *,
        numbers: int | Sequence[int] | None = None,
        negative: Prompts | None = None,
        forced: Sequence[Forced] | None = None,
        **settings: float | int | bool,
    ) -> Iterator[Samples]:
        """Yields the images after every scale as soon as they are drawn, with the tokens so far.

        The last are those that `sample` gives with the same arguments. All labels are drawn at
        once; what is wrong with the arguments is raised before the first image.
        """
        sampler, asked = self._requests.build(
            labels, seed, numbers=numbers, negative=negative, forced=forced, settings=settings
        )
        return (Samples(*step) for step in stream_whole(sampler, self.weights, asked))

    def edit(
        self,
        images: Float[HostArray, "images _ _ 3"],
        masks: Float[HostArray, "masks _ _"],
        labels: Labels | Prompts | None = None,
        seed: int = 0,
        *,
        paste: bool = True,
        feather: int | float | None = None,
        noise: Sequence[Forced] | None = None,
        strength: int | float = STRENGTH,
        threshold: int | float = THRESHOLD,
        batch_size: int = BATCH_SIZE,
        **arguments: Any,
    ) -> Samples:
        """Images with what is white in masks drawn anew, for labels or prompts, or None for none.

        images, masks, noise, strength, threshold: of `keep`, one for all labels or one for each
        paste: whether pixels outside of the mask are those of the images, exactly
        feather: over how many pixels from the mask's edge the drawn fades in
        arguments: of `sample`
        """
        forced = self.keep(
            images,
            masks,
            noise=noise,
            strength=strength,
            threshold=threshold,
            batch_size=batch_size,
        )
        samples = self.sample(labels, seed, forced=forced, batch_size=batch_size, **arguments)
        if not paste:
            return samples
        feather = self.feather if feather is None else feather
        return replace(samples, images=paste_back(images, samples.images, masks, feather))

    def keep(
        self,
        images: Float[HostArray, "images _ _ 3"],
        masks: Float[HostArray, "masks _ _"],
        *,
        noise: Sequence[Forced] | None = None,
        strength: int | float = STRENGTH,
        threshold: int | float = THRESHOLD,
        batch_size: int = BATCH_SIZE,
    ) -> tuple[Forced, ...]:
        """What `forced` is for drawing, so that images stay as they are outside of masks.

        images: in [-1, 1], of the model's size
        masks: from 0, kept, to 1, drawn anew; one for all images, or for one image several
        noise: of these images, as `invert` found it, to draw with
        strength, threshold: of `sampling.editing.keep_tokens`

        Raises ValueError, as `edit`, for arrays of another size or range.
        """
        check_edited(images, masks, self.image_size)
        source = noise or source_of(self.sampler, self.weights, images, batch_size)
        count = max(len(images), len(masks))
        return keep_tokens(
            forced_for(source, count),
            np.broadcast_to(np.asarray(masks, np.float32), (count, *self.image_size)),
            self.sampler,
            strength=strength,
            threshold=threshold,
        )

    def invert(
        self,
        images: Float[HostArray, "images _ _ 3"],
        labels: Labels | Prompts,
        seed: int = 0,
        *,
        numbers: int | Sequence[int] | None = None,
        negative: Prompts | None = None,
        batch_size: int = BATCH_SIZE,
        **settings: float | int | bool,
    ) -> tuple[Forced, ...]:
        """Noise under which the labels or prompts give the tokens of the images, all of them.

        It is the argument `noise` of `edit` and `forced` of `sample`, to draw with other labels.
        See `sampling.inversion.invert`; the seed chooses among all such noise.
        """
        whole = self.keep(images, np.zeros((1, *self.image_size)), batch_size=batch_size)
        sampler, asked = self._requests.build(
            labels, seed, numbers=numbers, negative=negative, forced=whole, settings=settings
        )
        check(
            not sampler.smooth,
            "smooth: got True, but no noise gives tokens where codes are mixed; leave it out.",
        )
        return self._run(invert, sampler, asked, batch_size)

    def sampling(self, **settings: float | int | bool) -> SamplingConfig:
        """How images are drawn with these settings. Raises ValueError as drawing does."""
        return self._requests.sampling(settings)

    def label_indices(self, labels: Labels) -> np.ndarray:
        """Class indices of labels; see `sampling.asked.label_indices`."""
        return label_indices(labels, self.class_names)

    def parse_labels(self, text: str) -> list[int | str]:
        """The labels of a text; see `sampling.asked.parse_labels`."""
        return parse_labels(text, self.class_names)

    def condition(self, asked: Any) -> Condition:
        """`Labels`, or `Prompts`, as the trunk's condition. Raises ValueError for unknown ones.

        An empty prompt is the unconditional condition.
        """
        return self._requests.condition(asked)

    def features(self, prompts: Prompts) -> TextFeatures:
        """The features of prompts, the model's own of an empty one."""
        return self._requests.features(prompts)

    def carried_state_bytes(self) -> int:
        """Most bytes that one image carries from scale to scale, with guidance (two rows)."""
        return max(carried_bytes(self.sampler, self.weights))

    def cache_bytes(self) -> tuple[int, ...]:
        """Bytes of one image's keys and values after every scale, with guidance (two rows)."""
        return cache_bytes(self.sampler, self.weights)

    @cached_property
    def checksum(self) -> str:
        """The name of the trunk's weights (`models.checksum`).

        It is of the float32 weights: where they are narrowed, their files are read again when it is
        first asked for. Raises ValueError where these are gone or others, for a model whose weights
        were replaced but not `stored`, and for one with a policy, which may have reordered heads.
        """
        check(
            self.weights.compression is None,
            "checksum: the policy may have reordered heads; ask the model without one.",
        )
        trunk = self.weights.trunk
        return self.stored.of(trunk) if self.stored else checksum(trunk)

    def cache_summary(self) -> str:
        """What the policy keeps, in words; raises ValueError where there is none."""
        compression = check_given(
            self.weights.compression, "the model has no policy; see Model.compressed."
        )
        summary = compression.summary(self.config.model.head_dim, self.trunk.dtype)
        return f"{self.policy}: {summary}"

    @property
    def _requests(self) -> RequestBuilder:
        return RequestBuilder(
            self.config, self.class_names, self.sampler, self.weights, self.text_encoder
        )

    def _run(
        self,
        program: Callable,
        sampler: Sampler,
        asked: NumberedRequest,
        batch_size: int,
        axis: int = 0,
    ) -> PyTree:
        """What `generate`, `grow` or `invert` gives, in batches, on the host."""

        def of_rows(rows):
            return draw(program, sampler, self.weights, asked.images(rows))

        count = len(asked.numbers)
        return in_batches(of_rows, count, batch_size, axis=axis, report=self.report)

    def __repr__(self) -> str:
        """What the model is, without its arrays."""
        model, size, draft = self.config.model, self.image_size, self.sampler.draft
        of = "texts" if model.condition == "text" else f"{len(self.class_names)} classes"
        return (
            f"Model({', '.join(model.pattern)}, depth {model.depth}, width {model.width}, "
            f"{of}, images of {size[0]} x {size[1]}"
            f"{f', {self.policy}' if self.policy else ''}"
            f"{f', {draft.scales} scales drafted' if draft else ''})"
        )
