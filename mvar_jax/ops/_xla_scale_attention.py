"""Attention over a joined sequence of scales, group by group of scales, in plain JAX."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Bool, Float
from mvar_jax.ops._xla_attention import masked_attention
from mvar_jax.ops.attention import Reach, cosine_normalize

# At most; of the pairs of VAR's scales 3% are masked in the history, a seventh inside scales.
TOKENS_OF_GROUP = 160


def scale_attention(
    query: Float[Array, "batch heads total dim"],
    key: Float[Array, "batch heads total dim"],
    value: Float[Array, "batch heads total dim"],
    *,
    slices: Sequence[slice],
    softmax_scale: float,
    reach: Reach,
    log_scale: Float[Array, "heads"] | None,
) -> Float[Array, "batch heads total dim"]:
    """See `ops.scale_attention`.

    Large scales are attention over a slice of keys each, so that little is computed only to be
    masked away, and the largest matrix is that of the last scale. Small ones share a matrix with a
    mask: there the number of operations costs more than what is masked.
    """
    if log_scale is not None:
        query, key = cosine_normalize(query, key, log_scale)
    outputs = []
    for group in _groups(slices):
        own = slice(group[0].start, group[-1].stop)
        seen = own if reach == "scale" else slice(0, own.stop)
        parts = (query[:, :, own], key[:, :, seen], value[:, :, seen])
        mask = _mask(group, reach)[None, None] if len(group) > 1 else None
        outputs.append(masked_attention(*parts, softmax_scale=softmax_scale, mask=mask))
    return jnp.concatenate(outputs, axis=2)


def _groups(slices: Sequence[slice]) -> list[list[slice]]:
    """Consecutive scales of together at most `TOKENS_OF_GROUP` tokens, or one larger scale."""
    groups: list[list[slice]] = []
    for own in slices:
        if groups and own.stop - groups[-1][0].start <= TOKENS_OF_GROUP:
            groups[-1].append(own)
        else:
            groups.append([own])
    return groups


def _mask(group: Sequence[slice], reach: Reach) -> Bool[np.ndarray, "n m"]:
    """Which keys the queries of a group see."""
    first, last = group[0].start, group[-1].stop
    rows = np.repeat(np.arange(len(group)), [own.stop - own.start for own in group])
    if reach == "scale":
        return rows[:, None] == rows
    earlier = np.ones((last - first, first), bool)
    return np.concatenate([earlier, rows[:, None] >= rows], axis=1)
