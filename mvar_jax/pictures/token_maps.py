"""The tokens of one scale as a small coloured picture."""

import numpy as np
from jaxtyping import UInt8

from mvar_jax.array_types import HostArray

SPREAD = 0x9E3779B1  # 2**32 over the golden ratio: neighbouring products lie far apart


def token_map(tokens: HostArray, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """A pixel per token: equal tokens have equal colours.

    tokens: those of one image at one scale, integers [n], or bits [n, bits]
    size: the scale's height and width in tokens, whose product is n

    A code has a colour of its own, by multiplicative hashing. Bits are shown in three groups, as
    shares of ones in red, green and blue: tokens that differ in few bits look alike.
    """
    array = np.asarray(tokens)
    if array.ndim == 2:
        groups = np.array_split(array, 3, axis=1)
        shares = np.stack([group.mean(axis=1) for group in groups], axis=1)
        return np.round(255 * shares).astype(np.uint8).reshape(*size, 3)
    hashed = ((array.astype(np.uint64) + 1) * SPREAD) & 0xFFFFFFFF
    colors = np.stack([hashed >> 24, hashed >> 16, hashed >> 8], axis=1) & 0xFF
    return colors.astype(np.uint8).reshape(*size, 3)
