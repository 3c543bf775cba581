"""Writes folders of rendered scenes: eight classes to train on, two held out to adapt to.

python docs/examples/held_out_classes.py scenes 64 2000 100
"""

import sys
from pathlib import Path

from PIL import Image

from mvar_jax.data.scenes import CLASSES, draw_scene, render

HELD_OUT = ("ring", "star")


def main(out: str, side: str, known: str, new: str) -> None:
    """Writes `out`/known and `out`/new, a folder per class, and so many images of each class."""
    missing = {name: int(new if name in HELD_OUT else known) for name in CLASSES}
    for name in CLASSES:
        _folder(out, name).mkdir(parents=True)
    index = 0
    while any(missing.values()):
        scene, index = draw_scene(0, index), index + 1
        name = CLASSES[scene.label]
        if missing[name]:
            missing[name] -= 1
            image = Image.fromarray(render(scene, int(side)))
            image.save(_folder(out, name) / f"{index:06d}.png")


def _folder(out: str, name: str) -> Path:
    return Path(out) / ("new" if name in HELD_OUT else "known") / name


if __name__ == "__main__":
    main(*sys.argv[1:])
