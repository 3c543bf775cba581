"""A trained model, ready to sample: what `mvar_jax.load` gives."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import jax
import numpy as np

from mvar_jax.array_types import Params
from mvar_jax.cache import Compression, Profile, memory_bytes, prepare_compression
from mvar_jax.checks import check, check_seed
from mvar_jax.config import Config, SamplingConfig
from mvar_jax.config.tree import from_config_dict
from mvar_jax.models import Trunk
from mvar_jax.models.checksum import checksum, embeddings_checksum
from mvar_jax.models.heads import order_heads
from mvar_jax.sampling import Filter, generate, grow, image_keys
from mvar_jax.tokenizers import VQTokenizer

BATCH_SIZE = 100


@dataclass(frozen=True)
class Samples:
    """Images, float32 `[batch, height, width, 3]` in [-1, 1], and int32 tokens per scale."""

    images: np.ndarray
    tokens: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Model:
    """A trained trunk with its tokenizer, ready to sample.

    With a `compression`, the trunk's heads are in its order; see `compressed`.
    """

    config: Config
    class_names: tuple[str, ...]
    trunk: Trunk
    tokenizer: VQTokenizer
    params: dict[str, Params]  # "trunk" and "tokenizer"
    compression: Compression | None = None
    policy: str = ""  # the name that the compression was asked for by

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
        check(self.compression is None, "the model has a policy already; start from its original.")
        schedule, shape = self.trunk.schedule, self.trunk.attention_shape
        self.check_remembers()
        if profile is not None:
            full = profile.names_all_weights
            name = self._checksum if full else embeddings_checksum(self.params["trunk"])
            profile.check_fits(name, schedule, *shape)
        compression = prepare_compression(
            policy, schedule, shape, ratio=ratio, budget=budget, profile=profile, **settings
        )
        trunk = order_heads(self.params["trunk"], self.trunk, compression.plan.head_order)
        params = {**self.params, "trunk": trunk}
        return replace(self, params=params, compression=compression, policy=policy)

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
        labels: Sequence[int | str],
        seed: int = 0,
        *,
        batch_size: int = BATCH_SIZE,
        **settings: float | int | bool,
    ) -> Samples:
        """Images for labels, class indices or class names.

        Image i depends on the seed, i and its label only. `settings` override the config's
        `sampling` by name: guidance, top_k, top_p, temperature, smooth. Raises ValueError for an
        unknown label or setting.
        """
        parts = self._run(generate, labels, seed, batch_size, settings)
        images, tokens = jax.tree.map(lambda *a: np.concatenate(a)[: len(labels)], *parts)
        return Samples(images, tokens)

    def grow(
        self,
        labels: Sequence[int | str],
        seed: int = 0,
        *,
        batch_size: int = BATCH_SIZE,
        **settings: float | int | bool,
    ) -> np.ndarray:
        """Images as they are after every scale, float32 `[scales, batch, height, width, 3]`.

        They lie in [-1, 1]. The last are those that `sample` gives with the same arguments, and
        what is wrong with these raises the same errors.
        """
        parts = self._run(grow, labels, seed, batch_size, settings)
        return np.concatenate(parts, axis=1)[:, : len(labels)]

    def label_indices(self, labels: Sequence[int | str]) -> np.ndarray:
        """Class indices, int32, of indices or names.

        Of a class with several names, "tench, Tinca tinca", any one will do. Raises ValueError for
        an unknown label, and for a name of several classes.
        """
        check(len(labels) > 0, "labels: got none, expected at least one.")
        return np.array([self._label_index(label) for label in labels], np.int32)

    def carried_state_bytes(self) -> int:
        """Most bytes that one image carries from scale to scale, with guidance (two rows)."""
        trunk = self.trunk.bind({"params": self.params["trunk"]})
        states = memory_bytes(jax.eval_shape(lambda: trunk.empty_memory(2, self.compression)))
        return states + max(self.cache_bytes())

    def cache_bytes(self) -> tuple[int, ...]:
        """Bytes of one image's keys and values after every scale, with guidance (two rows)."""
        schedule, shape = self.trunk.schedule, self.trunk.attention_shape
        if shape.layers == 0:
            return (0,) * len(schedule)
        compression = self.compression or prepare_compression("full", schedule, shape)
        return compression.bytes(2, self.config.model.head_dim, self.trunk.dtype)

    def cache_summary(self) -> str:
        """What the policy keeps, in words; raises ValueError where there is none."""
        check(self.compression is not None, "the model has no policy; see Model.compressed.")
        summary = self.compression.summary(self.config.model.head_dim, self.trunk.dtype)
        return f"{self.policy}: {summary}"

    @cached_property
    def _checksum(self) -> str:
        """The name of the trunk's weights; a comparison of policies asks for it many times."""
        return checksum(self.params["trunk"])

    def _run(
        self,
        program: Callable,
        labels: Sequence[int | str],
        seed: int,
        batch_size: int,
        settings: dict,
    ) -> list:
        """What `generate` or `grow` gives for batches of labels, on the host."""
        check_seed(seed)
        check(batch_size >= 1, f"batch_size: got {batch_size}, expected at least 1.")
        indices = self.label_indices(labels)
        sampling = self._sampling(settings)
        filters = Filter.of(sampling)
        keys = image_keys(seed, len(indices))
        batch_size = min(batch_size, len(indices))
        parts = []
        for first in range(0, len(indices), batch_size):
            # The last batch is filled up, so that all have one shape and one program.
            rows = np.minimum(np.arange(first, first + batch_size), len(indices) - 1)
            part = program(
                self.trunk,
                self.tokenizer,
                self.params,
                indices[rows],
                keys[rows],
                filters,
                sampling.smooth,
                self.compression,
            )
            parts.append(jax.device_get(part))
        return parts

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
