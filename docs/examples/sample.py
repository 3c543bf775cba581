"""Draws four images of two labels, and writes them as one picture.

python docs/examples/sample.py runs/digits digits.png
"""

import sys

import mvar_jax
from mvar_jax.pictures.image_files import save_picture
from mvar_jax.pictures.image_grid import image_grid


def main(workdir: str, out: str) -> None:
    """Loads a trained model, samples, and saves the images in labelled rows."""
    model = mvar_jax.load(workdir)
    # A label is a class index or a class name; settings not given here are those of the config.
    samples = model.sample([3, 3, "7", "7"], seed=0, guidance=1.0, top_p=0.95)
    print("images", samples.images.shape, "from", samples.images.min(), "to", samples.images.max())
    print("tokens", *(tokens.shape for tokens in samples.tokens))
    save_picture(image_grid(samples.images, columns=2, row_labels=["3", "7"]), out)

    # Image 2 again, alone: the seed, the number and the label name it.
    again = model.sample(["7"], seed=0, numbers=[2], guidance=1.0, top_p=0.95)
    print("equal tokens", (again.tokens[-1] == samples.tokens[-1][2:3]).all())


if __name__ == "__main__":
    main(*sys.argv[1:])
