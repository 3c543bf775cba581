"""8-bit quantization of vectors, with one scale per vector."""

import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Int

LEVELS = 127


def quantize_int8(
    vectors: Float[Array, "*batch dim"],
) -> tuple[Int[Array, "*batch dim"], Float[Array, "*batch"]]:
    """Vectors as int8 with one float32 scale each: `vector ~ scale * int8`.

    The scale is the largest magnitude over 127, so no entry is off by more than half a scale:
    max |vector| / 254.
    """
    wide = vectors.astype(jnp.float32)
    scale = jnp.max(jnp.abs(wide), axis=-1) / LEVELS
    levels = jnp.round(wide / jnp.where(scale > 0, scale, 1)[..., None])
    return levels.astype(jnp.int8), scale


def dequantize_int8(
    levels: Int[Array, "*batch dim"], scale: Float[Array, "*batch"], dtype: jnp.dtype
) -> Float[Array, "*batch dim"]:
    """The vectors from the result of `quantize_int8`."""
    return (levels.astype(jnp.float32) * scale[..., None]).astype(dtype)
