"""Classifier-free guidance over pairs of rows."""

from mvar_jax.array_types import Array, Float


def guide(
    logits: Float[Array, "rows n logits"], strength: Float[Array, ""] | float
) -> Float[Array, "batch n logits"]:
    """`(1 + t) conditional - t unconditional`, from image-major rows.

    Rows 2i and 2i + 1 are image i with and without its condition (VAR's official sampling).
    """
    pairs = logits.reshape(-1, 2, *logits.shape[1:])
    return (1 + strength) * pairs[:, 0] - strength * pairs[:, 1]
