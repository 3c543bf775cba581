"""A folder of photographs from Python packages, to train a tokenizer on: solar cells, and scenes.

python docs/photographs.py elpv_dataset/data/images photographs
"""

import sys
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_images

SCENES = ("astronaut", "coffee", "chelsea", "rocket", "retina", "immunohistochemistry")
SIDE = 80  # pixels; a training crops 64 of them
CROPS = 250  # of every scene


def crops(pixels: np.ndarray, count: int, random: np.random.Generator):
    """Square parts of a photograph, of a side between `SIDE` and its shorter one."""
    for _ in range(count):
        side = random.integers(SIDE, min(pixels.shape[:2]), endpoint=True)
        top, left = (random.integers(n - side, endpoint=True) for n in pixels.shape[:2])
        yield Image.fromarray(pixels[top : top + side, left : left + side])


def main(cells: str, out: str) -> None:
    """Writes train/ and validation/, of each photograph the left three quarters and the rest."""
    random = np.random.default_rng(0)
    parts = {(split, kind): [] for split in ("train", "validation") for kind in ("cell", "scene")}
    for index, file in enumerate(sorted(Path(cells).glob("*.png"))):
        parts["validation" if index % 10 == 0 else "train", "cell"].append(Image.open(file))
    for scene in [getattr(skimage.data, name)() for name in SCENES] + load_sample_images().images:
        edge = scene.shape[1] * 3 // 4
        parts["train", "scene"] += crops(scene[:, :edge], CROPS, random)
        parts["validation", "scene"] += crops(scene[:, edge:], CROPS // 8, random)
    for (split, kind), images in parts.items():
        (folder := Path(out) / split / kind).mkdir(parents=True)
        for index, image in enumerate(images):
            image.convert("RGB").resize((SIDE, SIDE), Image.LANCZOS).save(folder / f"{index}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
