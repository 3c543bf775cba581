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
    """Prints the shares by a classifier that was fitted to so many real scenes of ten classes."""
    model = mvar_jax.load(workdir)
    side, asked = model.image_size[0], int(count)
    classifier = ImageClassifier(*_scenes("train", int(fitted), side))
    images, labels = _scenes("test", 20 * asked, side)
    for label in (CLASSES.index("ring"), CLASSES.index("star")):
        real = images[labels == label][:asked]
        drawn = model.sample([CLASSES[label]] * asked, guidance=float(guidance)).images
        kinds = (real, np.asarray(reconstruct(model, real)), drawn)
        shares = [classifier.accuracy(kind, np.full(len(kind), label)) for kind in kinds]
        print(CLASSES[label], *(f"{share:.2f}" for share in shares))


def _scenes(split: str, count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    scenes = [draw_scene(SEEDS[split], index) for index in range(count)]
    images = normalize(np.stack([render(scene, side) for scene in scenes]))
    return images, np.array([scene.label for scene in scenes])


if __name__ == "__main__":
    main(*sys.argv[1:])
