"""Keys and values that attention over the history caches between scales."""

from dataclasses import replace

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float, Int, Leaf
from mvar_jax.ops.int8 import dequantize_int8, quantize_int8
from mvar_jax.scales import ScaleSchedule


@flax.struct.dataclass
class KVCache:
    """The cache of one group of heads of one layer; every head has its own tokens.

    Keys are stored as attention uses them (normalised if the model normalises). Tokens are in
    the order of their positions in the joined sequence of all scales; a token's scale follows from
    its position and the schedule's offsets. With 8-bit storage keys and values are int8, with a
    float32 scale per vector.
    """

    key: Leaf  # [batch, heads, m, dim], compute dtype or int8
    value: Leaf  # [batch, heads, m, dim], compute dtype or int8
    position: Leaf  # [batch, heads, m], int16, or int32 for schedules of over 32767 tokens
    score: Leaf = None  # [batch, heads, m] float32, accumulated by a policy over the scales
    key_scale: Leaf = None  # [batch, heads, m] float32
    value_scale: Leaf = None  # [batch, heads, m] float32

    @classmethod
    def empty(
        cls,
        batch: int,
        heads: int,
        dim: int,
        dtype: jnp.dtype,
        schedule: ScaleSchedule,
        int8: bool = False,
        scored: bool = False,
    ) -> "KVCache":
        """A cache of no tokens."""
        nothing = jnp.zeros((batch, heads, 0, dim), jnp.int8 if int8 else dtype)
        numbers = jnp.zeros((batch, heads, 0), jnp.float32)
        return cls(
            key=nothing,
            value=nothing,
            position=jnp.zeros((batch, heads, 0), position_dtype(schedule)),
            score=numbers if scored else None,
            key_scale=numbers if int8 else None,
            value_scale=numbers if int8 else None,
        )

    @property
    def length(self) -> int:
        """Tokens in the cache of every head."""
        return self.key.shape[2]

    def source(self, schedule: ScaleSchedule) -> Int[Array, "batch heads m"]:
        """The scale of every token."""
        scales = np.repeat(np.arange(len(schedule), dtype=np.int32), schedule.lengths)
        return jnp.asarray(scales)[self.position]

    def append(
        self,
        key: Float[Array, "batch heads n dim"],
        value: Float[Array, "batch heads n dim"],
        position: int,
    ) -> "KVCache":
        """The cache with the tokens of one more scale, whose first position is `position`."""
        batch, heads, tokens, _ = key.shape
        own = jnp.arange(position, position + tokens, dtype=self.position.dtype)
        new = KVCache(
            key=key.astype(self.key.dtype),
            value=value.astype(self.value.dtype),
            position=jnp.broadcast_to(own, (batch, heads, tokens)),
            score=None if self.score is None else jnp.zeros((batch, heads, tokens)),
        )
        if self.key_scale is not None:
            new = replace(new, **_quantized(key, value))
        return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=2), self, new)

    def read(
        self, dtype: jnp.dtype
    ) -> tuple[Float[Array, "batch heads m dim"], Float[Array, "batch heads m dim"]]:
        """Keys and values as attention uses them."""
        if self.key_scale is None:
            return self.key, self.value
        return (
            dequantize_int8(self.key, self.key_scale, dtype),
            dequantize_int8(self.value, self.value_scale, dtype),
        )

    def take(self, indices: Int[Array, "batch heads kept"]) -> "KVCache":
        """The cache of the tokens at some indices, which differ by row and head."""
        return jax.tree.map(lambda array: take_tokens(array, indices), self)


def position_dtype(schedule: ScaleSchedule) -> jnp.dtype:
    """The smallest integer type that holds every position of a schedule."""
    return jnp.dtype(jnp.int16 if schedule.total <= np.iinfo(np.int16).max else jnp.int32)


def take_tokens(
    array: Float[Array, "batch heads m ..."] | Int[Array, "batch heads m ..."],
    indices: Int[Array, "batch heads kept"],
) -> Float[Array, "batch heads kept ..."] | Int[Array, "batch heads kept ..."]:
    """Gathers along the token axis, with its own indices for every row and head."""
    return jax.vmap(jax.vmap(lambda tokens, chosen: tokens[chosen]))(array, indices)


def _quantized(key, value):
    (key, key_scale), (value, value_scale) = quantize_int8(key), quantize_int8(value)
    return {"key": key, "value": value, "key_scale": key_scale, "value_scale": value_scale}
