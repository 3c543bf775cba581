"""What a network finds in images."""

from collections.abc import Callable
from dataclasses import dataclass

import flax.struct
import jax
import numpy as np

from mvar_jax.array_types import Array, Leaf, Params

SIDE = 64  # of an image that stands for any


@flax.struct.dataclass
class ImageFeatures:
    """What metrics take from images, float32; a pytree. A network may lack all but `pool`."""

    pool: Leaf  # [batch, features], the means of its last maps
    spatial: Leaf | None = None  # [batch, positions times channels], the channel fastest
    logits: Leaf | None = None  # [batch, classes]


@dataclass(frozen=True, eq=False)  # hashed by identity
class FeatureNetwork:
    """A network with its weights, and what a report says of it."""

    name: str
    weights: str  # the SHA-256 of their file
    resize: str  # in words
    params: Params
    compute: Callable[[Params, Array], ImageFeatures]  # of images, uint8 [batch, h, w, 3]

    def lengths(self) -> dict[str, int]:
        """How many numbers it finds of an image, by the name in `ImageFeatures`; computes none."""
        images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), np.uint8)
        found = jax.eval_shape(self.compute, self.params, images)
        return {name: one.shape[1] for name, one in vars(found).items() if one is not None}
