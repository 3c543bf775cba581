"""Keeps the most recent tokens."""

from dataclasses import dataclass

import jax.numpy as jnp

from mvar_jax.array_types import Array, Float
from mvar_jax.cache.kv_cache import KVCache
from mvar_jax.cache.plan import GroupPlan
from mvar_jax.cache.policies.base import Policy, Probe


@dataclass(frozen=True)
class SlidingWindow(Policy):
    """Sliding-window attention: the last `budget` tokens."""

    name = "sliding_window"

    def score(
        self, union: KVCache, probe: Probe, group: GroupPlan
    ) -> Float[Array, "batch heads m"]:
        """The later, the better."""
        return union.position.astype(jnp.float32)
