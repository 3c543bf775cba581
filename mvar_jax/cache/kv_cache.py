"""Keys and values that attention over the history remembers between scales."""

import flax.struct
import jax.numpy as jnp

from mvar_jax.typing import Array, Float, Leaf


@flax.struct.dataclass
class KVCache:
    """What one layer's attention has seen so far; grows by one scale at a time.

    Keys are stored as attention uses them (normalised where the model normalises), both in the
    compute dtype.
    """

    key: Leaf  # [batch, m, heads, dim]
    value: Leaf  # [batch, m, heads, dim]

    @classmethod
    def empty(cls, batch: int, heads: int, dim: int, dtype: jnp.dtype) -> "KVCache":
        """A cache of no tokens."""
        nothing = jnp.zeros((batch, 0, heads, dim), dtype)
        return cls(nothing, nothing)

    def append(
        self, key: Float[Array, "batch n heads dim"], value: Float[Array, "batch n heads dim"]
    ) -> "KVCache":
        """The cache with the tokens of a further scale at its end."""
        return KVCache(
            jnp.concatenate([self.key, key.astype(self.key.dtype)], axis=1),
            jnp.concatenate([self.value, value.astype(self.value.dtype)], axis=1),
        )
