"""The state that a state-space layer carries between scales, of constant size."""

import flax.struct
import jax.numpy as jnp

from mvar_jax.array_types import Leaf


@flax.struct.dataclass
class SSMState:
    """The tails of the causal convolutions and the recurrent state of one layer."""

    tail_x: Leaf  # [batch, conv_size - 1, heads * dim], compute dtype
    tail_bc: Leaf  # [batch, conv_size - 1, 2 * state], compute dtype
    state: Leaf  # [batch, heads, dim, state], float32

    @classmethod
    def zeros(
        cls, batch: int, heads: int, dim: int, state: int, conv_size: int, dtype: jnp.dtype
    ) -> "SSMState":
        """The state before the first token."""
        return cls(
            tail_x=jnp.zeros((batch, conv_size - 1, heads * dim), dtype),
            tail_bc=jnp.zeros((batch, conv_size - 1, 2 * state), dtype),
            state=jnp.zeros((batch, heads, dim, state), jnp.promote_types(dtype, jnp.float32)),
        )
