"""Keeps the left half of drawn images and draws the right half again.

python docs/examples/forced_tokens.py runs/digits halves.png
"""

import sys

import numpy as np

import mvar_jax
from mvar_jax.models import ClassLabels
from mvar_jax.ops.noise import image_keys
from mvar_jax.pictures.image_files import save_picture
from mvar_jax.pictures.image_grid import image_grid
from mvar_jax.sampling import Filters, Forced, Generation, Request, Samples, generate


def main(workdir: str, out: str) -> tuple[Samples, Generation]:
    """Forces the tokens of the left half at every scale; the others are drawn with new noise."""
    model = mvar_jax.load(workdir)
    labels = model.label_indices([7, 7, 7])
    first, forced = model.sample(labels.tolist(), seed=0), []
    for tokens, (height, width) in zip(first.tokens, model.sampler.scales.sizes):
        mask = np.tile(np.arange(width) < width / 2, (len(labels), height))  # [batch, tokens]
        forced.append(Forced(tokens, mask.astype(np.float32)))
    request = Request(
        condition=ClassLabels(labels),
        keys=image_keys(1, np.arange(len(labels))),  # another seed: other noise
        filters=Filters.of(model.config.sampling, len(model.sampler.scales)),
        forced=forced,
    )
    second = generate(model.sampler, model.weights, request)
    images = np.concatenate([first.images, second.images])
    save_picture(image_grid(images, columns=len(labels), row_labels=["first", "again"]), out)
    return first, second


if __name__ == "__main__":
    main(*sys.argv[1:])
