"""Shows images while they are drawn: writes a picture after every scale.

python docs/examples/stream.py runs/digits growing
"""

import sys

import mvar_jax
from mvar_jax.pictures.image_files import save_picture
from mvar_jax.pictures.image_grid import image_grid


def main(workdir: str, folder: str) -> None:
    """Iterates over the scales of three images; each picture is ready as soon as its scale is."""
    model = mvar_jax.load(workdir)
    for scale, samples in enumerate(model.stream([1, 2, 3], seed=0)):
        height, width = model.sampler.scales.sizes[scale]
        print(f"scale {scale}: {height} x {width} tokens each, {len(samples.tokens)} scales so far")
        save_picture(image_grid(samples.images, columns=3), f"{folder}/{scale}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
