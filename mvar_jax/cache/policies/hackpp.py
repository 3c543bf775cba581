"""HACK++: one budget for attention, a smaller one for the cache, by head kind, layer and scale."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float
from mvar_jax.cache.kv_cache import KVCache
from mvar_jax.cache.plan import (
    AttentionShape,
    CachePlan,
    GroupPlan,
    plan_group,
    spread_budget,
)
from mvar_jax.cache.policies.base import MOST, Probe
from mvar_jax.cache.policies.hack import CONTEXTUAL, STRUCTURAL, HeadAware
from mvar_jax.cache.policies.snapkv import max_pool
from mvar_jax.cache.profile import Profile
from mvar_jax.scales import ScaleSchedule


@dataclass(frozen=True)
class HackPP(HeadAware):
    """HACK++ (arXiv 2606.08302): inherits `budget` tokens, attends to `attend_ratio` times as many.

    The budget of scale k is divided among layers and head kinds in proportion to
    reliance ** `tau`: how much later scales attend to the history. Contextual heads score tokens
    by pooled attention, structural heads by the calibrated attention to the token's scale times the
    norm of its value, without using queries. `tau`, `pool` and `queries` are inferred; with order
    "after" a scale attends to everything.
    """

    name = "hackpp"
    needs = ("head_variance", "mass")

    attend_ratio: float = 3.0
    tau: float = 1.0
    pool: int = 5

    def __post_init__(self):
        super().__post_init__()
        self.check_range("attend_ratio", 1.0, MOST)
        self.check_range("tau", 0.0, MOST)
        self.check_pool(self.pool)

    def plan(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> CachePlan:
        """Two groups per layer, whose cache lengths differ by scale."""
        contextual = self.contextual(shape, profile)
        groups = [
            (layer, kind, contextual[layer] == (kind == CONTEXTUAL))
            for layer in range(shape.layers)
            for kind in (CONTEXTUAL, STRUCTURAL)
            if np.any(contextual[layer] == (kind == CONTEXTUAL))
        ]
        reliance = _reliance(self.measured(profile).mass, schedule)
        weights = [int(heads.sum()) for _, _, heads in groups]
        kept: dict[tuple[int, str], list[int]] = {(layer, kind): [] for layer, kind, _ in groups}
        for scale, seen in enumerate(np.cumsum(schedule.lengths)):
            shares = [
                reliance[layer, heads, scale].mean() ** self.tau for layer, _, heads in groups
            ]
            filled = spread_budget(shares, weights, min(self.budget, int(seen)), 1, int(seen))
            for (layer, kind, _), budget in zip(groups, filled):
                kept[layer, kind].append(budget)
        attend = None
        if self.order == "before":
            attend = (min(round(self.attend_ratio * self.budget), schedule.total),) * len(schedule)

        def plan_kind(layer, kind, heads):
            return plan_group(schedule, heads, kept[layer, kind], attend, kind)

        return self.split(contextual, plan_kind)

    def table(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> np.ndarray:
        """Mean attention of a query of each scale to a token of each scale."""
        return (self.measured(profile).mass / np.array(schedule.lengths)).astype(np.float32)

    def score(
        self, union: KVCache, probe: Probe, group: GroupPlan
    ) -> Float[Array, "batch heads m"]:
        """Pooled attention, or calibrated attention to the token's scale times its value's norm."""
        if group.kind == CONTEXTUAL:
            return max_pool(self.observed(union, probe), self.pool)
        assert probe.table is not None  # what `table` gives
        prior = probe.table[None, :, probe.scale]  # [1, heads, scales]
        share = jnp.take_along_axis(prior, union.source(probe.schedule), axis=2)
        return share * jnp.linalg.norm(union.value.astype(jnp.float32), axis=-1)


def _reliance(mass: np.ndarray, schedule: ScaleSchedule) -> np.ndarray:
    """How much later scales attend to a token of the history, [layers, heads, scales].

    For scale k, the sum over later scales of the mean attention to a token before them.
    """
    history = np.triu(np.ones(mass.shape[2:]), 1).T  # queries' scale after keys' scale
    before = np.maximum(np.array(schedule.offsets), 1)
    per_token = np.sum(mass * history, axis=3) / before
    return np.flip(np.cumsum(np.flip(per_token, 2), 2), 2) - per_token
