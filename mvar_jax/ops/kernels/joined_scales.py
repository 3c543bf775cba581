"""What the attention kernels share: the layout they compute on, and their static arguments."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from einops import rearrange

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.attention import MAX_LOG_SCALE, Reach


class Static(NamedTuple):
    """Static arguments of the kernels; `slices` are the (start, stop) positions of the scales."""

    slices: tuple[tuple[int, int], ...]
    heads: int
    dim: int
    softmax_scale: float
    reach: Reach
    normalize: bool

    @property
    def total(self) -> int:
        """The number of tokens."""
        return self.slices[-1][1]


def with_flat_heads(
    attention: Callable[..., Array],
    query: Float[Array, "batch heads total dim"],
    key: Float[Array, "batch heads total dim"],
    value: Float[Array, "batch heads total dim"],
    *,
    slices: Sequence[slice],
    softmax_scale: float,
    reach: Reach,
    log_scale: Float[Array, "heads"] | None,
) -> Float[Array, "batch heads total dim"]:
    """`ops.scale_attention` by a function of arrays [batch, total, heads * dim].

    If the arguments were rearranged from that layout, the compiler removes both transposes. The
    function also gets the temperatures, float32 [batch, 1, heads], and the static arguments.
    """
    batch, heads, _, dim = query.shape
    flat = (rearrange(array, "b h n d -> b n (h d)") for array in (query, key, value))
    spans = tuple((own.start, own.stop) for own in slices)
    static = Static(spans, heads, dim, softmax_scale, reach, log_scale is not None)
    if log_scale is None:
        log_scale = jnp.zeros(heads)
    temperature = jnp.exp(jnp.minimum(log_scale, MAX_LOG_SCALE))
    temperature = jnp.broadcast_to(temperature, (batch, 1, heads))
    mixed = attention(*flat, temperature, static)
    return rearrange(mixed, "b n (h d) -> b h n d", h=heads)
