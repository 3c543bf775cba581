"""Judges edits of rendered scenes: is the object what was asked for, and does the rest stay?"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from mvar_jax.array_types import Bool
from mvar_jax.data.pipeline import normalize
from mvar_jax.data.scene_captions import describe, is_held_out
from mvar_jax.data.scenes import CLASSES, HUES, Scene, draw_scene, render
from mvar_jax.data.shapes import SEEDS
from mvar_jax.evaluation.caption_judge import CaptionJudge, Followed
from mvar_jax.evaluation.reconstruction import reconstruct
from mvar_jax.sampling.editing import THRESHOLD, paste_back, white_shares
from mvar_jax.sampling.model import Model

REACH = 1.1  # of a mask around an object and its shadow, in radii of the object
SHADOW = 0.35  # how far from the object's centre that of its shadow is taken to be, in its radii


@dataclass(frozen=True)
class Edits:
    """Scenes whose objects are to change: images in [-1, 1], masks of the objects, and captions.

    Masks are from 0 to 1. `wanted` are the captions after the change.
    """

    images: Float32[np.ndarray, "batch side side 3"]
    masks: Float32[np.ndarray, "batch side side"]
    before: tuple[str, ...]
    wanted: tuple[str, ...]


@dataclass(frozen=True)
class JudgedEdits:
    """How edits follow what was wanted, and PSNR in dB of what the decoder makes of what is kept.

    images: the edits, with the pixels outside of the masks pasted back, which are judged
    drawn: the same without pasting, of which PSNR is measured, over the pixels that are black in
        the mask and whose token of the last scale is kept
    """

    images: Float32[np.ndarray, "batch side side 3"]
    drawn: Float32[np.ndarray, "batch side side 3"]
    followed: Followed
    kept_psnr: float
    reconstruction_psnr: float

    def right(self, texts: bool) -> float:
        """The share of edits that follow what was wanted: the class, of texts the hue as well."""
        return self.followed.both if texts else self.followed.label


def scene_edits(count: int, side: int, *, hues: bool) -> Edits:
    """Test scenes with a change of the object's class each, with `hues` of every second one's hue.

    The combinations of class and hue that captioned training leaves out are not asked for.
    """
    scenes = [draw_scene(SEEDS["test"], index) for index in range(count)]
    wanted = [_changed(scene, i, hue=hues and i % 2 == 1) for i, scene in enumerate(scenes)]
    return Edits(
        images=normalize(np.stack([render(scene, side) for scene in scenes])),
        masks=np.stack([mask_of(scene, side) for scene in scenes]),
        before=tuple(describe(scene) for scene in scenes),
        wanted=tuple(describe(scene) for scene in wanted),
    )


def _changed(scene: Scene, index: int, *, hue: bool) -> Scene:
    """The scene with another class or hue of its object, a different one for every index."""
    random = np.random.default_rng(index)
    others = [
        replace(scene, object=replace(scene.object, hue=name)) if hue else replace(scene, label=i)
        for i, name in enumerate(HUES if hue else CLASSES)
    ]
    asked = (scene.label, scene.object.hue)
    known = [
        other
        for other in others
        if (other.label, other.object.hue) != asked
        and not is_held_out(other.label, other.object.hue)
    ]
    return known[random.integers(len(known))]


def mask_of(scene: Scene, side: int) -> Float32[np.ndarray, "side side"]:
    """1 within `REACH` radii of the object's centre, or of its shadow's, else 0."""
    places = (np.arange(side) + 0.5) * 2 / side - 1
    x, y = np.meshgrid(places, places)
    away = -scene.light[:2] / np.hypot(*scene.light[:2])
    centers = (scene.center, scene.center + SHADOW * scene.radius * away)
    near = [np.hypot(x - left, y - top) < REACH * scene.radius for left, top in centers]
    return np.logical_or(*near).astype(np.float32)


def judge_edits(
    model: Model, edits: Edits, seed: int = 0, *, threshold: float = THRESHOLD, **arguments: Any
) -> JudgedEdits:
    """Edits scenes by a model of captions or of the classes of shapes, and judges them.

    The classifiers are those of `CaptionJudge`; of a model of classes `label` alone is asked for.
    `arguments` are others of `Model.edit`, but `paste` and `feather`: edits are judged pasted, over
    the model's own feather.
    """
    texts = model.config.model.condition == "text"
    asked = list(edits.wanted) if texts else [class_of(caption) for caption in edits.wanted]
    choice = {"threshold": threshold, "paste": False, **arguments}
    drawn = model.edit(edits.images, edits.masks, asked, seed, **choice).images
    images = paste_back(edits.images, drawn, edits.masks, model.feather)
    kept = (edits.masks == 0) & kept_pixels(edits.masks, model.sampler.scales.last, threshold)
    decoded = jax.device_get(reconstruct(model, edits.images))
    return JudgedEdits(
        images=images,
        drawn=drawn,
        followed=CaptionJudge(edits.images.shape[1]).judge(images, edits.wanted),
        kept_psnr=psnr_where(kept, drawn, edits.images),
        reconstruction_psnr=psnr_where(kept, decoded, edits.images),
    )


def kept_pixels(
    masks: Float32[np.ndarray, "batch side side"], size: tuple[int, int], threshold: float
) -> Bool[np.ndarray, "batch side side"]:
    """Which pixels have a token of their image at a scale of (height, width) `size` in tokens."""
    kept = white_shares(masks, size) <= threshold
    _, height, width = masks.shape
    return kept.repeat(height // size[0], axis=1).repeat(width // size[1], axis=2)


def class_of(caption: str) -> str:
    """The class that a caption of a scene names."""
    return caption.split(" on ", maxsplit=1)[0].rpartition(" ")[2]


def psnr_where(
    where: Bool[np.ndarray, "batch h w"], images: np.ndarray, originals: np.ndarray
) -> float:
    """Mean over images of the PSNR in dB of the pixels chosen, those of an image together."""
    squares = np.square((images - originals) / 2).mean(axis=-1)
    chosen = where.sum(axis=(1, 2))
    errors = np.where(where, squares, 0).sum(axis=(1, 2))[chosen > 0] / chosen[chosen > 0]
    return float(np.mean(-10 * np.log10(np.maximum(errors, 1e-12))))
