"""A short name for the weights of a trunk."""

import hashlib

import numpy as np

from mvar_jax.array_types import Params

LEAVES = ("class_embedding", "level_embedding", "start_position")


def fingerprint(params: Params) -> str:
    """16 hexadecimal digits that differ between any two trained trunks.

    Taken from a few small parameters that every training step changes.
    """
    digest = hashlib.sha256()
    for name in LEAVES:
        digest.update(np.asarray(params[name], np.float32).tobytes())
    return digest.hexdigest()[:16]
