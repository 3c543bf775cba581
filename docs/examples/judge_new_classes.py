"""Shares of real scenes, of reconstructions and of samples of the held-out classes, recognised.

python docs/examples/judge_new_classes.py runs/new 100 6
"""

import sys

import numpy as np

import mvar_jax
from mvar_jax.data.pipeline import normalize
from mvar_jax.data.scenes import CLASSES, draw_scene, render
from mvar_jax.data.shapes import SEEDS
from mvar_jax.evaluation.classifier import ImageClassifier
from mvar_jax.evaluation.reconstruction import reconstruct


def main(workdir: str, count: str, guidance: str, fitted: str = "4000") -> None:
    """Prints the shares, by a classifier that is fitted to so many real scenes."""
    model, asked = mvar_jax.load(workdir), int(count)
    model.label_indices(["ring", "star"])  # raises where one is missing
    classifier = ImageClassifier(*_scenes("train", int(fitted), model.image_size[0]))
    images, labels = _scenes("test", len(CLASSES) * asked, model.image_size[0])
    for label in map(CLASSES.index, ("ring", "star")):
        real = images[labels == label]
        drawn = model.sample([CLASSES[label]] * asked, guidance=float(guidance)).images
        kinds = (real, np.asarray(reconstruct(model, real)), drawn)
        shares = [classifier.accuracy(kind, np.full(asked, label)) for kind in kinds]
        print(CLASSES[label], *(f"{share:.2f}" for share in shares))


def _scenes(split: str, count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    scenes = [draw_scene(SEEDS[split], index) for index in range(count)]
    images = [render(scene, side) for scene in scenes]
    return normalize(np.stack(images)), np.array([scene.label for scene in scenes])


if __name__ == "__main__":
    main(*sys.argv[1:])
