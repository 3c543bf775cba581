"""What a network finds in images."""

import flax.struct

from mvar_jax.array_types import Leaf


@flax.struct.dataclass
class ImageFeatures:
    """What metrics take from images, float32; a pytree. A network may lack all but `pool`."""

    pool: Leaf  # [batch, features], the means of its last maps
    spatial: Leaf | None = None  # [batch, positions times channels], the channel fastest
    logits: Leaf | None = None  # [batch, classes]
