"""Features of texts: what a text encoder gives, and what conditions a trunk."""

import flax.struct

from mvar_jax.array_types import Leaf


@flax.struct.dataclass
class TextFeatures:
    """One feature per token of every text; texts are padded to one length."""

    features: Leaf  # float32 [batch, length, channels]
    mask: Leaf  # bool [batch, length], true for tokens, which come first
