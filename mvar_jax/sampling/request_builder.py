"""From the arguments of a drawing, as users give them, to the request that is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import batch_size
from mvar_jax.checks import check, check_given, check_integer, check_seed
from mvar_jax.config import Config, SamplingConfig
from mvar_jax.config.tree import from_config_dict
from mvar_jax.models import ClassLabels, Condition
from mvar_jax.models.conditioner import choose
from mvar_jax.sampling.asked import Labels, Prompts, label_indices, listed, text_features
from mvar_jax.sampling.request import Filters, Forced, NumberedRequest, Sampler, Weights, forced_for
from mvar_jax.text.encoder import TextEncoder
from mvar_jax.text.features import TextFeatures


@dataclass(frozen=True)
class RequestBuilder:
    """Builds the requests of a model; `sampling.Model` says what its fields are."""

    config: Config
    class_names: tuple[str, ...]
    sampler: Sampler
    weights: Weights
    text_encoder: TextEncoder | None

    def build(
        self,
        labels: Labels | Prompts | None,
        seed: int,
        *,
        numbers: int | Sequence[int] | None,
        negative: Prompts | None,
        forced: Sequence[Forced] | None,
        settings: Mapping[str, float | int | bool],
    ) -> tuple[Sampler, NumberedRequest]:
        """The sampler and the request of a drawing.

        labels: None for images without a condition, as many as `forced` is of
        seed, numbers: of the images; None numbers them from 0 on
        negative: prompts that guidance leads away from, one or as many
        forced: what is given at every scale, of one image or of every one
        settings: in place of the config's `sampling`, by name

        Raises ValueError for what is wrong with any of them.
        """
        check_seed(seed)
        condition = self._unconditional(forced) if labels is None else self.condition(labels)
        count = batch_size(condition)
        own = _image_numbers(numbers, count)
        if negative is not None:
            condition, negative = self._with_negative(condition, negative)
        sampling = self.sampling(settings)
        check(
            negative is None or sampling.guidance != 0,
            "negative: guidance is 0, so nothing leads away from it; set a guidance, or leave out "
            "the negative prompt.",
        )
        request = NumberedRequest(
            condition=condition,
            seed=np.uint32(seed),
            numbers=own,
            filters=Filters.of(sampling, len(self.sampler.scales)),
            forced=None if forced is None else forced_for(forced, count),
            negative=negative,
        )
        layer = sampling.guidance_layer
        return replace(self.sampler, smooth=sampling.smooth, guidance_layer=layer), request

    def sampling(self, settings: Mapping[str, float | int | bool]) -> SamplingConfig:
        """The config's `sampling` with these settings. Raises ValueError for wrong ones."""
        values = {**asdict(self.config.sampling), **settings}
        sampling = from_config_dict(values, SamplingConfig)
        replace(self.config, sampling=sampling)  # checks the limits against the vocabulary
        draft, layer = self.sampler.draft, sampling.guidance_layer
        check(
            draft is None or layer < draft.trunk.config.depth,
            f"guidance_layer: got {layer}, expected less than the "
            f"{draft and draft.trunk.config.depth} blocks of the draft.",
        )
        return sampling

    def condition(self, asked: Any) -> Condition:
        """`Labels`, or `Prompts`, as the trunk's condition. Raises ValueError for unknown ones."""
        if self.config.model.condition == "text":
            return self.features(asked)
        return ClassLabels(label_indices(asked, self.class_names))

    def features(self, prompts: Prompts) -> TextFeatures:
        """The features of prompts, the model's own of an empty one."""
        features = text_features(prompts, self.text_encoder, self.config.model.text)
        texts = [] if isinstance(prompts, TextFeatures) else listed(prompts)
        if "" not in texts:
            return features
        check(
            self.sampler.draft is None,
            "prompts: got an empty one, which the model and its draft have learned apart; give a "
            "text, or leave out the draft.",
        )
        null = self.sampler.trunk.bind({"params": self.weights.trunk}).null(features)
        return jax.device_get(choose(jnp.array([text == "" for text in texts]), null, features))

    def _unconditional(self, forced: Sequence[Forced] | None) -> Condition:
        """The condition of images that are drawn without one, as many as have given tokens."""
        given = check_given(forced, "labels: got None, expected labels, prompts or given tokens.")
        if self.config.model.condition == "text":
            return self.features([""] * batch_size(given))
        return ClassLabels(np.full(batch_size(given), self.config.model.num_classes, np.int32))

    def _with_negative(
        self, condition: Condition, negative: Prompts
    ) -> tuple[TextFeatures, TextFeatures]:
        """Prompts and negative prompts, as many and as long."""
        if not isinstance(condition, TextFeatures):
            raise ValueError("negative: the model draws classes, not prompts; leave it out.")
        count = batch_size(condition)
        away = self.features(negative)
        check(
            batch_size(away) in (1, count),
            f"negative: got {batch_size(away)} prompts for {count} images, expected 1 or {count}.",
        )
        length = max(condition.mask.shape[1], away.mask.shape[1])
        rows = np.arange(count) % batch_size(away)
        return condition.padded(length), away.rows(rows).padded(length)


def _image_numbers(numbers: int | Sequence[int] | None, count: int) -> np.ndarray:
    """The numbers of `count` images, uint32 `[count]`, from 0 on for None."""
    given = range(count) if numbers is None else listed(numbers)
    check(
        len(given) == count,
        f"numbers: got {len(given)} for {count} images, expected one for each.",
    )
    for number in given:
        check_integer("numbers", number, 0, 2**32 - 1)
    return np.array(given, np.uint32)
