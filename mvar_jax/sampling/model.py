"""A trained model, ready to sample: what `mvar_jax.load` gives."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from mvar_jax.array_types import PyTree, in_32_bits
from mvar_jax.cache import Profile, memory_bytes, prepare_compression
from mvar_jax.checks import check, check_given, check_integer, check_seed
from mvar_jax.config import Config, SamplingConfig
from mvar_jax.config.tree import from_config_dict
from mvar_jax.models import ClassLabels, Trunk
from mvar_jax.models.checksum import checksum, embeddings_checksum
from mvar_jax.models.heads import order_heads
from mvar_jax.sampling.generate import generate, grow, stream
from mvar_jax.sampling.request import (
    Filters,
    NumberedRequest,
    Sampler,
    Weights,
    batch_rows,
)
from mvar_jax.tokenizers import Tokenizer

BATCH_SIZE = 100
Labels = int | str | Sequence[int | str]


@dataclass(frozen=True)
class Samples:
    """Images, float32 `[batch, height, width, 3]` in [-1, 1], and int32 tokens per scale."""

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
    a list of them (a string is one name), `seed` goes from 0 to 2**32 - 1, `settings` override the
    config's `sampling` by name (guidance, top_k, top_p, temperature, smooth). Drawing raises
    ValueError for an unknown label or setting.
    """

    config: Config
    class_names: tuple[str, ...]
    sampler: Sampler
    weights: Weights
    policy: str = ""  # the name that the weights' compression was asked for by

    @property
    def trunk(self) -> Trunk:
        """The trunk without its parameters."""
        return self.sampler.trunk

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer without its parameters."""
        return self.sampler.tokenizer

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
            name = self._checksum if full else embeddings_checksum(self.weights.trunk)
            profile.check_fits(name, schedule, *shape)
        compression = prepare_compression(
            policy, schedule, shape, ratio=ratio, budget=budget, profile=profile, **settings
        )
        trunk = order_heads(self.weights.trunk, self.trunk, compression.plan.head_order)
        weights = Weights(trunk, self.weights.tokenizer, compression)
        return replace(self, weights=weights, policy=policy)

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
        labels: Labels,
        seed: int = 0,
        *,
        numbers: int | Sequence[int] | None = None,
        batch_size: int = BATCH_SIZE,
        **settings: float | int | bool,
    ) -> Samples:
        """Images for labels."""
        asked = self._asked(labels, seed, numbers, settings)
        return Samples(*self._run(generate, *asked, batch_size))

    def grow(
        self,
        labels: Labels,
        seed: int = 0,
        *,
        numbers: int | Sequence[int] | None = None,
        batch_size: int = BATCH_SIZE,
        **settings: float | int | bool,
    ) -> np.ndarray:
        """Images as they are after every scale, float32 `[scales, batch, height, width, 3]`.

        They lie in [-1, 1]. The last are those that `sample` gives with the same arguments.
        """
        asked = self._asked(labels, seed, numbers, settings)
        return self._run(grow, *asked, batch_size, axis=1)

    def stream(
        self,
        labels: Labels,
        seed: int = 0,
        *,
        numbers: int | Sequence[int] | None = None,
        **settings: float | int | bool,
    ) -> Iterator[Samples]:
        """Yields the images after every scale as soon as they are drawn, with the tokens so far.

        The last are those that `sample` gives with the same arguments. All labels are drawn at
        once; what is wrong with the arguments is raised before the first image.
        """
        return self._stream(*self._asked(labels, seed, numbers, settings))

    def label_indices(self, labels: Labels) -> np.ndarray:
        """Class indices, int32 `[labels]`, of indices or names.

        Of a class with several names, "tench, Tinca tinca", any one will do. Raises ValueError for
        an unknown label, and for a name of several classes.
        """
        listed = _listed(labels)
        check(len(listed) > 0, "labels: got none, expected at least one.")
        return np.array([self._label_index(label) for label in listed], np.int32)

    def parse_labels(self, text: str) -> list[int | str]:
        """The labels of a text such as "3,tench, Tinca tinca", which commas part; for drawing.

        Pieces that are a class's name together are one label, the longest first. "all" is every
        class, unless one has that name.
        """
        names = {_pieces(name): name for name in self.class_names}
        longest = max(map(len, names))
        rest, labels = _pieces(text), list[int | str]()
        if rest == ("all",) and rest not in names:
            return list(range(len(self.class_names)))
        while rest:
            sizes = range(min(longest, len(rest)), 1, -1)
            size = next((size for size in sizes if rest[:size] in names), 1)
            labels.append(names.get(rest[:size], rest[0]))
            rest = rest[size:]
        return labels

    def carried_state_bytes(self) -> int:
        """Most bytes that one image carries from scale to scale, with guidance (two rows)."""
        trunk = self.trunk.bind({"params": self.weights.trunk})
        memory = jax.eval_shape(
            lambda: trunk.empty_memory(2, self.weights.compression, schedule=self.sampler.scales)
        )
        return memory_bytes(memory) + max(self.cache_bytes())

    def cache_bytes(self) -> tuple[int, ...]:
        """Bytes of one image's keys and values after every scale, with guidance (two rows)."""
        schedule, shape = self.sampler.scales, self.trunk.attention_shape
        if shape.layers == 0:
            return (0,) * len(schedule)
        compression = self.weights.compression or prepare_compression("full", schedule, shape)
        return compression.bytes(2, self.config.model.head_dim, self.trunk.dtype)

    def cache_summary(self) -> str:
        """What the policy keeps, in words; raises ValueError where there is none."""
        compression = check_given(
            self.weights.compression, "the model has no policy; see Model.compressed."
        )
        summary = compression.summary(self.config.model.head_dim, self.trunk.dtype)
        return f"{self.policy}: {summary}"

    @cached_property
    def _checksum(self) -> str:
        """The name of the trunk's weights; a comparison of policies asks for it many times."""
        return checksum(self.weights.trunk)

    def _asked(
        self,
        labels: Labels,
        seed: int,
        numbers: int | Sequence[int] | None,
        settings: dict,
    ) -> tuple[Sampler, NumberedRequest]:
        """What the arguments of a drawing ask for. Raises ValueError for what is wrong."""
        check_seed(seed)
        indices = self.label_indices(labels)
        numbers = range(len(indices)) if numbers is None else _listed(numbers)
        check(
            len(numbers) == len(indices),
            f"numbers: got {len(numbers)} for {len(indices)} labels, expected one for each.",
        )
        for number in numbers:
            check_integer("numbers", number, 0, 2**32 - 1)
        sampling = self._sampling(settings)
        asked = NumberedRequest(
            condition=ClassLabels(indices),
            seed=np.uint32(seed),
            numbers=np.array(numbers, np.uint32),
            filters=Filters.of(sampling, len(self.sampler.scales)),
        )
        return replace(self.sampler, smooth=sampling.smooth), asked

    def _run(
        self,
        program: Callable,
        sampler: Sampler,
        asked: NumberedRequest,
        batch_size: int,
        axis: int = 0,
    ) -> PyTree:
        """What `generate` or `grow` gives, in batches, on the host; `axis` counts images."""
        check_integer("batch_size", batch_size, 1, 2**31 - 1)
        count = len(asked.numbers)
        parts = []
        for rows in batch_rows(count, _filled_size(count, batch_size)):
            part = _draw(program, sampler, self.weights, asked.images(rows))
            parts.append(jax.device_get(part))
        own = (*(slice(None),) * axis, slice(count))  # the last batch is filled up
        return jax.tree.map(lambda *arrays: np.concatenate(arrays, axis)[own], *parts)

    def _stream(self, sampler: Sampler, asked: NumberedRequest) -> Iterator[Samples]:
        count = len(asked.numbers)
        tokens: tuple[np.ndarray, ...] = ()
        (rows,) = batch_rows(count, _filled_size(count))
        request = _request(asked.images(rows))
        for step in stream(sampler, self.weights, request):
            images, own = jax.tree.map(lambda array: array[:count], jax.device_get(step))
            tokens += (own,)
            yield Samples(images, tokens)

    def __repr__(self) -> str:
        """What the model is, without its arrays."""
        model, size = self.config.model, self.config.tokenizer.image_size
        return (
            f"Model({', '.join(model.pattern)}, depth {model.depth}, width {model.width}, "
            f"{len(self.class_names)} classes, images of {size[0]} x {size[1]}"
            f"{f', {self.policy}' if self.policy else ''})"
        )

    def _label_index(self, label: int | str) -> int:
        names, text = self.class_names, str(label).strip()
        if isinstance(label, str):
            found = [i for i, name in enumerate(names) if name == text]
            found = found or [i for i, name in enumerate(names) if text in name.split(", ")]
            check(len(found) <= 1, f"labels: {label!r} names the classes {found}, give an index.")
            if found:
                return found[0]
        count = len(names)
        check(
            text.isdecimal() and int(text) < count,
            f"labels: got {label!r}, expected class indices from 0 to {count - 1} or names such "
            f"as {names[0]!r}.",
        )
        return int(text)

    def _sampling(self, settings: dict) -> SamplingConfig:
        values = {**asdict(self.config.sampling), **settings}
        sampling = from_config_dict(values, SamplingConfig)
        replace(self.config, sampling=sampling)  # checks the limits against the vocabulary
        return sampling


@in_32_bits
def _draw(program: Callable, sampler: Sampler, weights: Weights, asked: NumberedRequest) -> PyTree:
    return _drawn(program, sampler, weights, asked)


@partial(jax.jit, static_argnames=("program", "sampler"))
def _drawn(program, sampler, weights, asked):
    # Keys are made inside: apart, they would be a program for every number of images.
    return program(sampler, weights, asked.request())


_request = in_32_bits(jax.jit(NumberedRequest.request))


def _listed(value: Any) -> Sequence:
    """A value by itself as a list; a string is one value."""
    return list(value) if np.iterable(value) and not isinstance(value, str) else [value]


def _pieces(text: str) -> tuple[str, ...]:
    """What commas part in a text."""
    return tuple(piece.strip() for piece in text.split(","))


def _filled_size(count: int, most: int | None = None) -> int:
    """The size of the batches that images are drawn in: a power of two, or the most."""
    size = 1 << (count - 1).bit_length()
    return size if most is None else min(size, most)
