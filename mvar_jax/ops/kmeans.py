"""Cluster centres of vectors: k-means, seeded by k-means++."""

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Key
from mvar_jax.checks import check
from mvar_jax.ops.quantize import nearest_code

LLOYD_STEPS = 10


def kmeans(
    key: Key[Array, ""], vectors: Float[Array, "n code"], clusters: int
) -> Float[Array, "clusters code"]:
    """The centres of `clusters` clusters of vectors, after some steps of Lloyd's algorithm.

    They start at vectors drawn one after the other with probabilities proportional to the squared
    distance from the nearest one drawn so far (k-means++, Arthur and Vassilvitskii 2007). A centre
    that is nearest to no vector stays where it is. Raises ValueError for more clusters than
    vectors.
    """
    check(
        clusters <= len(vectors),
        f"kmeans: got {clusters} clusters of {len(vectors)} vectors, expected at most as many.",
    )

    def move(_, centres):
        nearest = nearest_code(vectors[None], centres)[0]
        sums = jax.ops.segment_sum(vectors, nearest, clusters)
        counts = jax.ops.segment_sum(jnp.ones(len(vectors)), nearest, clusters)[:, None]
        return jnp.where(counts > 0, sums / jnp.maximum(counts, 1), centres)

    return jax.lax.fori_loop(0, LLOYD_STEPS, move, _seeds(key, vectors, clusters))


def _seeds(
    key: Key[Array, ""], vectors: Float[Array, "n code"], clusters: int
) -> Float[Array, "clusters code"]:
    """The first centres, by k-means++; the first of them is any vector."""

    def draw(index, found):
        seeds, distances = found
        # Where the different vectors are fewer, all distances come to zero: the first is drawn.
        scores = jnp.where(index == 0, 0, jnp.log(distances))
        chosen = jax.random.categorical(jax.random.fold_in(key, index), scores)
        seed = vectors[chosen]
        distances = jnp.minimum(distances, jnp.sum((vectors - seed) ** 2, axis=-1))
        return seeds.at[index].set(seed), distances

    start = jnp.zeros((clusters, vectors.shape[1])), jnp.full(len(vectors), jnp.inf)
    return jax.lax.fori_loop(0, clusters, draw, start)[0]
