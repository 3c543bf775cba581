"""Keeps the tokens that the last queries of a scale attend to."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float
from mvar_jax.cache.kv_cache import KVCache
from mvar_jax.cache.plan import GroupPlan
from mvar_jax.cache.policies.base import MOST, Policy, Probe, attention_shares
from mvar_jax.scales import ScaleSchedule


@dataclass(frozen=True)
class SnapKV(Policy):
    """SnapKV (Li et al., arXiv 2404.14469): an observation window ranks the other tokens.

    The last `window` tokens are kept. The others are ranked by the attention of the window's
    queries, averaged over `pool` neighbouring keys.
    """

    name = "snapkv"

    window: int = 16
    pool: int = 5

    def __post_init__(self):
        super().__post_init__()
        self.check_range("window", 1, MOST)
        self.check_pool(self.pool)

    def forced(self, schedule: ScaleSchedule) -> int:
        """The window."""
        return self.window

    def score(
        self, union: KVCache, probe: Probe, group: GroupPlan
    ) -> Float[Array, "batch heads m"]:
        """Infinite for the window, otherwise the pooled attention of its queries."""
        window = min(self.window, probe.tokens)
        shares = attention_shares(probe.query[:, :, -window:], union.key, probe.softmax_scale)
        votes = average_pool(jnp.sum(shares, axis=2), self.pool)
        recent = jnp.arange(union.length) >= union.length - self.window
        return jnp.where(recent, jnp.inf, votes)


def average_pool(
    score: Float[Array, "batch heads m"], kernel: int
) -> Float[Array, "batch heads m"]:
    """Means over `kernel` neighbours (an odd number), zeros beyond the ends."""
    return _pool(score, kernel, 0.0, jax.lax.add) / kernel


def max_pool(score: Float[Array, "batch heads m"], kernel: int) -> Float[Array, "batch heads m"]:
    """Maxima over `kernel` neighbours (an odd number)."""
    return _pool(score, kernel, -jnp.inf, jax.lax.max)


def _pool(score, kernel, start, reduce):
    reach = kernel // 2
    window, padding = (1, 1, kernel), ((0, 0), (0, 0), (reach, reach))
    return jax.lax.reduce_window(score, start, reduce, window, (1, 1, 1), padding)
