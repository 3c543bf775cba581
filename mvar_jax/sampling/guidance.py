"""Classifier-free guidance over rows that come in pairs."""

from mvar_jax.array_types import Array, Float


def guidance_ramp(
    guidance: Float[Array, ""] | float, scale: int, scales: int
) -> Float[Array, ""] | float:
    """Guidance of one scale: 0 at the first, growing linearly to the full value at the last."""
    return guidance * (scale / max(scales - 1, 1))


def guide(
    logits: Float[Array, "rows n vocab"], strength: Float[Array, ""] | float
) -> Float[Array, "batch n vocab"]:
    """`(1 + t) conditional - t unconditional`, from rows ordered image by image.

    Rows 2i and 2i + 1 are image i with and without its label (VAR's official sampling).
    """
    pairs = logits.reshape(-1, 2, *logits.shape[1:])
    return (1 + strength) * pairs[:, 0] - strength * pairs[:, 1]
