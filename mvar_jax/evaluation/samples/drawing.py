"""What is drawn of a model for evaluation, image by image."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mvar_jax.array_types import Float
from mvar_jax.checks import check, check_integer, check_seed
from mvar_jax.evaluation.samples.layouts import Layout
from mvar_jax.models.checksum import checksum
from mvar_jax.sampling import Model
from mvar_jax.text import StoredFeatures, TextFeatures, read_features, write_features
from mvar_jax.text.feature_file import holds_features
from mvar_jax.text.features import padded_length

MOST = 2**32  # numbers of images
SEED_SCHEME = "key(seed) folded with the image's number, its scale and its token; numbers from 0"


@dataclass(frozen=True)
class SampleDrawing:
    """Images 0 to `count` - 1 of a model, a seed and settings, for evaluation.

    model: with its policy and draft, if any; its text encoder may be `StoredFeatures`.
    layout: which class or prompt each image is of, and the files that show it.
    batch: images that a device draws at a time.
    settings: arguments of `Model.sample` by name, of which `negative` is a text.

    Raises ValueError for what the model, or the layout, cannot draw.
    """

    model: Model
    layout: Layout
    count: int
    seed: int
    batch: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        check_seed(self.seed)
        check_integer("num", self.count, 1, MOST)
        check_integer("batch_size", self.batch, 1, MOST)
        check(
            not self._texts or self.model.text_encoder is not None,
            "prompts: the model has no text encoder; name one by --text_encoder, or --features.",
        )
        self.layout.check_takes(self.batch, self.model.image_size)
        sampling = self.model.sampling(**self._numeric)
        check(
            "negative" not in self.settings or sampling.guidance != 0,
            "--negative: guidance is 0, so nothing leads away from it; leave it out.",
        )

    @property
    def labels(self) -> str:
        """How images get their classes or prompts, in words."""
        last = self.layout.condition_of(self.count - 1, self._conditions)
        turn = "in turn" if self.layout.has_archive else "each for four images, in order"
        kind = "classes" if self.layout.prompts is None else "prompts"
        return f"{kind} 0 to {self._conditions - 1}, {turn}; the last image has {last}"

    def describe(self) -> dict[str, Any]:
        """What all pixels follow from but the weights, as values of JSON by name."""
        config, (height, width) = self.model.config, self.model.image_size
        draft = self.model.sampler.draft
        return {
            "count": self.count,
            "height": height,
            "width": width,
            "scales": self.model.sampler.scales.sizes,
            "seed": self.seed,
            "seed_scheme": SEED_SCHEME,
            "labels": self.labels,
            "images_per_device": self.batch,
            "sampling": dataclasses.asdict(self.model.sampling(**self._numeric)),
            "negative": self.settings.get("negative"),
            "prompts": self._prompts_checksum(),
            "text_encoder": self._encoder_checksums(),
            "draft_scales": 0 if draft is None else draft.scales,
            "layout": self.layout.name,
            "png": self.layout.png,
            "model": dataclasses.asdict(config.model),
            "tokenizer": dataclasses.asdict(config.tokenizer),
        }

    def with_features(self, folder: Path) -> "SampleDrawing":
        """The same, with the features of all its texts stored in a folder, for one that has texts.

        They are encoded only where they are not there yet. Raises ValueError as encoding does.
        """
        encoder = self.model.text_encoder
        if encoder is None or isinstance(encoder, StoredFeatures):
            return self
        if not holds_features(folder):
            write_features(folder, encoder, self._texts)
        return replace(self, model=replace(self.model, text_encoder=read_features(folder)))

    def check_texts(self) -> None:
        """Raises ValueError where a text has no features, or is longer than the model reads."""
        if self._texts:
            lengths = self._stored.lengths_of(self._texts)
            longest = self._texts[int(np.argmax(lengths))]
            self.model.features([text for text in self._texts if text in ("", longest)])

    def draw(self, numbers: Sequence[int]) -> Float[np.ndarray, "batch height width_px 3"]:
        """The images of these numbers, in [-1, 1], computed together on the ambient mesh."""
        rows = [self.layout.condition_of(number, self._conditions) for number in numbers]
        samples = self.model.sample(
            rows if self.layout.prompts is None else self._features(rows),
            self.seed,
            numbers=list(numbers),
            batch_size=len(rows),
            **self.settings,
        )
        return samples.images

    def _features(self, rows: Sequence[int]) -> TextFeatures:
        """The features of prompts, all padded alike: no image depends on other prompts' lengths."""
        assert self.layout.prompts is not None
        prompts = [self.layout.prompts.prompts[row] for row in rows]
        return self.model.features(prompts).padded(self._length)

    @cached_property
    def _length(self) -> int:
        longest = padded_length(int(self._stored.lengths_of(self._texts).max()))
        return min(longest, self.model.config.model.text.max_length)

    @property
    def _stored(self) -> StoredFeatures:
        assert isinstance(self.model.text_encoder, StoredFeatures)  # by `with_features`
        return self.model.text_encoder

    @cached_property
    def _texts(self) -> list[str]:
        """All texts, each once."""
        if self.layout.prompts is None:
            return []
        own = (self.settings["negative"],) if "negative" in self.settings else ()
        return list(dict.fromkeys((*self.layout.prompts.prompts, *own)))

    @property
    def _conditions(self) -> int:
        prompts = self.layout.prompts
        return self.model.config.model.num_classes if prompts is None else len(prompts.prompts)

    @property
    def _numeric(self) -> dict[str, Any]:
        return {name: value for name, value in self.settings.items() if name != "negative"}

    def _prompts_checksum(self) -> str | None:
        """The SHA-256 of all prompts in order, None of classes."""
        if self.layout.prompts is None:
            return None
        return hashlib.sha256("\0".join(self.layout.prompts.prompts).encode()).hexdigest()

    def _encoder_checksums(self) -> dict[str, str] | None:
        """What reads the prompts, None of classes; stored features have a checksum of their own."""
        encoder = self.model.text_encoder
        if encoder is None:
            return None
        if isinstance(encoder, StoredFeatures):
            return {"name": encoder.name, "features": encoder.manifest.data_checksum}
        return {"name": encoder.name, "weights": checksum(getattr(encoder, "params", {}))}


def weights_checksums(model: Model) -> dict[str, str]:
    """The names of all weights, by `models.checksum`; before a policy reorders the heads."""
    names = {"trunk": model.checksum, "tokenizer": checksum(model.weights.tokenizer)}
    return names if model.draft is None else names | {"draft": model.draft.checksum}
