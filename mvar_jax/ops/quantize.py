"""Vector quantization: the nearest code of a codebook."""

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Int

NORM_EPSILON = 1e-12


def nearest_code(
    vectors: Float[Array, "batch n code"],
    codebook: Float[Array, "vocab code"],
    normalize: bool = False,
) -> Int[Array, "batch n"]:
    """Index of the nearest codebook row for every vector, int32; the first one on a tie.

    Nearest in squared Euclidean distance |z|^2 + |e|^2 - 2 z e, or, with `normalize`, by the
    largest cosine. Computed in float32 at the highest matmul precision (float64 stays float64),
    since bfloat16 matmuls would select other codes (VQ-VAE, arXiv 1711.00937, equation 1).
    """
    dtype = jnp.promote_types(jnp.float32, vectors.dtype)
    vectors, codebook = vectors.astype(dtype), codebook.astype(dtype)
    if normalize:
        vectors, codebook = _unit(vectors), _unit(codebook)
    products = jnp.matmul(vectors, codebook.T, precision=jax.lax.Precision.HIGHEST)
    if normalize:
        return jnp.argmax(products, axis=-1).astype(jnp.int32)
    square = jnp.sum(vectors**2, axis=-1, keepdims=True) + jnp.sum(codebook**2, axis=-1)
    return jnp.argmin(square - 2 * products, axis=-1).astype(jnp.int32)


def _unit(vectors):
    norm = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / jnp.maximum(norm, NORM_EPSILON)
