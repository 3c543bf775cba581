"""Softmax along a loop over blocks of keys, for the attention kernels of GPUs."""

from typing import NamedTuple

import jax.numpy as jnp

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.kernels.blocks_gpu import matmul

LOWEST = -1e30  # below every logit, and finite: its difference to itself is 0


class Mixture(NamedTuple):
    """Values mixed by the softmax of the logits so far (FlashAttention-2, arXiv 2307.08691).

    The weights are relative to the largest logit so far; all fields are float32.
    """

    values: Float[Array, "n dim"]  # summed by weight
    largest: Float[Array, "n"]
    total: Float[Array, "n"]  # of the weights

    @classmethod
    def empty(cls, size: int, dim: int) -> "Mixture":
        """That of no keys, for `size` queries."""
        return cls(jnp.zeros((size, dim)), jnp.full(size, LOWEST), jnp.zeros(size))

    def add(self, logits: Float[Array, "n m"], value: Float[Array, "m dim"]) -> "Mixture":
        """With another block of keys; logits of those that are not seen are -inf."""
        largest = jnp.maximum(self.largest, jnp.max(logits, axis=1))
        weights, kept = jnp.exp(logits - largest[:, None]), jnp.exp(self.largest - largest)
        values = self.values * kept[:, None] + matmul(weights.astype(value.dtype), value)
        return Mixture(values, largest, self.total * kept + jnp.sum(weights, axis=1))

    @property
    def mean(self) -> Float[Array, "n dim"]:
        """The values' mean by weight, which is what attention computes."""
        return self.values / self.total[:, None]

    @property
    def log_sums(self) -> Float[Array, "n"]:
        """Logarithms of the sums of the exponentials of all logits."""
        return self.largest + jnp.log(self.total)
