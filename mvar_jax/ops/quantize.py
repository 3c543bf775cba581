"""Quantization: the nearest code of a codebook, and the nearest corner of a hypercube."""

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Int, UInt

NORM_EPSILON = 1e-12
SMALLEST_SHARE = 1e-30  # whose logarithm is finite


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


def nearest_corner(
    vectors: Float[Array, "*batch bits"],
) -> tuple[UInt[Array, "*batch bits"], Float[Array, "*batch bits"]]:
    """The bits of the hypercube's corner nearest to every vector, uint8, and the corner itself.

    A bit is 1 where the vector, divided by its length, is above 0: exact zeros, and so a zero
    vector, give 0. The corner is on the unit sphere. Its gradient is that of the divided vector,
    straight through the rounding (BSQ, arXiv 2406.07548).
    """
    units = _unit(vectors)
    bits = (units > 0).astype(jnp.uint8)
    # The difference is exactly zero, and only its gradient remains.
    return bits, corners(bits, vectors.shape[-1]) + (units - jax.lax.stop_gradient(units))


def corners(
    bits: UInt[Array, "*batch _"] | Float[Array, "*batch _"], dimensions: int
) -> Float[Array, "*batch _"]:
    """Coordinates +-1 / sqrt(dimensions) of corners on the unit sphere, float32, from their bits.

    Bits may be probabilities of 1; the result is then the expected corner.
    """
    return (2 * bits.astype(jnp.float32) - 1) / jnp.sqrt(jnp.float32(dimensions))


def bit_entropies(
    vectors: Float[Array, "*batch bits"], sharpness: float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """How undecided the bits of vectors are, and how evenly all of them use both values, in nats.

    The first is the entropy of a vector's soft bits, the mean over vectors; the second that of the
    means of soft bits over vectors. Both are sums over bits (BSQ, arXiv 2406.07548, where they are
    the two entropies of the loss, factored by bits).
    """
    scores = bit_scores(vectors, sharpness)
    ones, zeros = jax.nn.sigmoid(scores), jax.nn.sigmoid(-scores)
    # By scores, since p log p has no finite gradient where a sigmoid has come to 0 or 1.
    each = ones * jax.nn.softplus(-scores) + zeros * jax.nn.softplus(scores)
    axes = tuple(range(scores.ndim - 1))
    shares = jnp.stack([ones.mean(axis=axes), zeros.mean(axis=axes)])
    together = -jnp.sum(shares * jnp.log(jnp.maximum(shares, SMALLEST_SHARE)))
    return jnp.mean(jnp.sum(each, axis=-1)), together


def bit_scores(
    vectors: Float[Array, "*batch bits"], sharpness: float
) -> Float[Array, "*batch bits"]:
    """The logits of soft bits being 1: the distances' difference to both corners of a bit.

    With the unit vector u and corners at +-1 / sqrt(bits), |u + c|^2 - |u - c|^2 = 4 u c, which
    `sharpness`, an inverse temperature, multiplies.
    """
    return 4 * sharpness * _unit(vectors) / jnp.sqrt(jnp.float32(vectors.shape[-1]))


def _unit(vectors):
    norm = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / jnp.maximum(norm, NORM_EPSILON)
