"""Relative positions in buckets, whose learned bias T5 adds to the logits of attention.

Raffel et al., arXiv 1910.10683, section 2.1; the bidirectional form of the encoder.
"""

import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float, Int


def relative_buckets(
    distances: Int[np.ndarray, "distances"], buckets: int, max_distance: int
) -> Int[np.ndarray, "distances"]:
    """The bucket of key position minus query position, int32, from 0 to `buckets - 1`.

    Half of the buckets are for keys to the right. Of each half, half are for one distance each,
    the others grow with its logarithm up to `max_distance`; all farther keys share the last.
    """
    far = np.searchsorted(_thresholds(buckets // 2, max_distance), np.abs(distances), "right")
    return (far + (distances > 0) * (buckets // 2)).astype(np.int32)


def _thresholds(buckets: int, max_distance: int) -> list[int]:
    """The first distance of every bucket but the first, in exact integers.

    Of bucket e + k after the e exact ones it is the least a with log(a / e) / log(max_distance / e)
    >= k / r for the other r buckets, hence a^r e^k >= e^r max_distance^k. A logarithm in float32
    may round a tie to either side.
    """
    exact = buckets // 2
    rest, starts = buckets - exact, list(range(1, exact + 1))
    for k in range(1, rest):
        least = exact**rest * max_distance**k
        starts.append(
            next(a for a in range(starts[-1], max_distance + 1) if a**rest * exact**k >= least)
        )
    return starts


def relative_bias(
    table: Float[Array, "buckets heads"], n: int, max_distance: int
) -> Float[Array, "heads n n"]:
    """What is added to the logits of query i and key j: `table` at the bucket of j - i."""
    distances = np.arange(1 - n, n)
    by_distance = table[relative_buckets(distances, table.shape[0], max_distance)].T
    places = jnp.arange(n)
    return by_distance[:, places[None] - places[:, None] + n - 1]
