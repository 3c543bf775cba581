"""Attention over a joined sequence of scales, scale by scale in plain JAX."""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp

from mvar_jax.array_types import Array, Float
from mvar_jax.ops._xla_attention import attention
from mvar_jax.ops.attention import Reach, cosine_normalize


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

    Every scale is attention over a slice of keys, so nothing is computed only to be masked away,
    and the largest matrix is that of the last scale.
    """
    if log_scale is not None:
        query, key = cosine_normalize(query, key, log_scale)
    attend, outputs = partial(attention, softmax_scale=softmax_scale), []
    for own in slices:
        seen = own if reach == "scale" else slice(0, own.stop)
        outputs.append(attend(query[:, :, own], key[:, :, seen], value[:, :, seen]))
    return jnp.concatenate(outputs, axis=2)
