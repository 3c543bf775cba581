"""Classifier-free guidance over pairs of rows."""

import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Int


def guide(
    rows: Float[Array, "rows n channels"], strength: Float[Array, ""] | float
) -> Float[Array, "batch n channels"]:
    """`(1 + t) conditional - t unconditional`, from image-major rows.

    Rows 2i and 2i + 1 are image i with and without its condition (VAR's official sampling).
    """
    pairs = rows.reshape(-1, 2, *rows.shape[1:])
    return (1 + strength) * pairs[:, 0] - strength * pairs[:, 1]


def guide_after(
    x: Float[Array, "rows n width"],
    block: Int[Array, ""] | int,
    *,
    layer: int,
    strength: Float[Array, ""],
) -> Float[Array, "rows n width"]:
    """The tokens after the block of this index; after the `layer`-th both rows are the guided one.

    A strength of 0 changes nothing (Infinity's `cfg_insertion_layer`).
    """
    guided = jnp.repeat(guide(x, strength), 2, axis=0).astype(x.dtype)
    return jnp.where((block == layer - 1) & (strength != 0), guided, x)
