"""Judges drawings of captioned scenes: has the object the class and the hue that were asked for?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any, NamedTuple

import jax
import numpy as np

from mvar_jax.array_types import Float, HostArray
from mvar_jax.data.pipeline import normalize
from mvar_jax.data.scene_captions import describe, is_held_out, parse_object
from mvar_jax.data.scenes import HUES, Scene, draw_scene, render
from mvar_jax.data.shapes import SEEDS
from mvar_jax.evaluation.classifier import ImageClassifier
from mvar_jax.evaluation.color_histograms import color_histograms
from mvar_jax.evaluation.reconstruction import reconstruct
from mvar_jax.sampling.model import Model

SCENES = 4000  # that the classifiers are fitted on


@dataclass(frozen=True)
class Followed:
    """Shares of images, from 0 to 1, whose object is recognised as what the caption names."""

    label: float
    hue: float
    both: float


def fresh_captions(images: int, *, held_out: bool) -> list[str]:
    """Captions of test scenes, of the combinations kept out of training or of the others."""
    return [describe(scene) for scene in _fresh(images, held_out)]


def fresh_images(
    images: int, side: int, *, held_out: bool
) -> tuple[Float[np.ndarray, "batch side side 3"], list[str]]:
    """Renderings of the scenes of `fresh_captions`, float32 in [-1, 1], and their captions."""
    scenes = _fresh(images, held_out)
    return _rendered(scenes, side), [describe(scene) for scene in scenes]


def _fresh(images: int, held_out: bool) -> list[Scene]:
    scenes = (draw_scene(SEEDS["test"], index) for index in count())
    kept = (scene for scene in scenes if is_held_out(scene.label, scene.object.hue) == held_out)
    return list(islice(kept, images))


def _rendered(scenes: Sequence[Scene], side: int) -> np.ndarray:
    return normalize(np.stack([render(scene, side) for scene in scenes]))


class CaptionJudge:
    """Judges by two classifiers, of shapes and of colours, fitted on renderings for training.

    They see every combination of class and hue, and neither the tokenizer nor the model.
    """

    def __init__(self, side: int, scenes: int = SCENES):
        """Renders images of `side` pixels and fits both, which takes about half a minute."""
        drawn = [draw_scene(SEEDS["train"], index) for index in range(scenes)]
        images = _rendered(drawn, side)
        self._shapes = ImageClassifier(images, np.array([scene.label for scene in drawn]))
        hues = np.array([HUES.index(scene.object.hue) for scene in drawn])
        self._colors = ImageClassifier(images, hues, color_histograms)

    def judge(
        self, images: Float[HostArray, "batch height width_px 3"], captions: Sequence[str]
    ) -> Followed:
        """How images in [-1, 1] follow their captions.

        Raises ValueError as `parse_object` does, and when there are not as many of both.
        """
        asked = [parse_object(caption) for caption in captions]
        labels = np.array([label for label, _ in asked])
        hues = np.array([HUES.index(hue) for _, hue in asked])
        right_label = self._shapes.matches(images, labels)
        right_hue = self._colors.matches(images, hues)
        both = right_label & right_hue
        return Followed(*(float(np.mean(right)) for right in (right_label, right_hue, both)))


class Judged(NamedTuple):
    """How drawings follow captions, and the captions of combinations kept out of training."""

    rows: dict[str, Followed]
    captions: list[str]


def judge_model(
    model: Model,
    images: int,
    *,
    seed: int,
    batch_size: int,
    settings: Mapping[str, Any],
    progress: Callable[[int], None],
) -> Judged:
    """Draws so many images of either kind of captions, and judges them beside real ones.

    seed, batch_size, settings: of `Model.sample`
    progress: is told how many images of both kinds are drawn
    """
    side, done = model.config.tokenizer.image_size[0], 0

    def advance(count):
        nonlocal done
        progress(done := done + count)

    judge, model = CaptionJudge(side), replace(model, report=advance)
    real, unseen = fresh_images(images, side, held_out=True)
    rows = {"real images": judge.judge(real, unseen)}
    rows["their reconstructions"] = judge.judge(jax.device_get(reconstruct(model, real)), unseen)
    others = fresh_captions(images, held_out=False)
    for name, captions in (("drawn, combinations never seen", unseen), ("drawn, others", others)):
        drawn = model.sample(captions, seed, batch_size=batch_size, **settings)
        rows[name] = judge.judge(drawn.images, captions)
    return Judged(rows, unseen)
