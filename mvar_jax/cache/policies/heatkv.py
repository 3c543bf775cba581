"""HeatKV: heads drop whole scales, by a fixed timetable."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float
from mvar_jax.cache.head_orders import read_head_orders
from mvar_jax.cache.kv_cache import KVCache
from mvar_jax.cache.plan import AttentionShape, CachePlan, GroupPlan
from mvar_jax.cache.policies.base import MOST, Policy, Probe
from mvar_jax.cache.profile import Profile
from mvar_jax.files import input_path
from mvar_jax.scales import ScaleSchedule


@dataclass(frozen=True)
class HeatKV(Policy):
    """HeatKV (arXiv 2605.14877): calibration alone decides which head drops which scale.

    For each source scale, all heads of all layers are ranked by how much later scales attend to
    it. Before the caches exceed the budget, the heads of the lowest ranks drop that scale, equally
    many for each source scale. The first `sink_scales` scales are kept. So that arrays are
    rectangular, the heads of a layer are put into `groups` of similar length, each with the mean
    length of its heads; a scale that does not fit completely is kept in part.

    `groups` 0 is the published timetable exactly: heads are together only where all their lengths
    are equal, and keep whole scales. Programs are then large, up to a group for every head. `share`
    is the published size, of all tokens before the last scale, in place of a budget in whole
    tokens. `orders` names a file of published orders (`head_orders`) in place of a profile.
    """

    name = "heatkv"
    needs = ("mass",)

    order: str = "after"
    sink_scales: int = 3
    groups: int = 2
    share: float = 0.0
    orders: str = ""

    def __post_init__(self):
        super().__post_init__()
        self.check_range("sink_scales", 0, MOST)
        self.check_range("groups", 0, MOST)
        self.check_range("share", 0.0, 1.0)

    @classmethod
    def fixed_budget(cls, schedule: ScaleSchedule, settings: Mapping[str, Any]) -> int | None:
        """The share in whole tokens."""
        share = settings.get("share", 0.0)
        return math.floor(share * schedule.offsets[-1]) if share else None

    def needed(self) -> tuple[str, ...]:
        """No measurement, if the orders are published."""
        return () if self.orders else self.needs

    def forced(self, schedule: ScaleSchedule) -> int:
        """The first scales."""
        return sum(schedule.lengths[: self.sink_scales])

    def plan(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> CachePlan:
        """Groups of heads with similar, or with equal, numbers of remaining tokens."""
        lengths = self._lengths(schedule, shape, self._ranks(schedule, shape, profile))
        layers, order = [], []
        for own in lengths:
            parts = self._parts(own)
            budgets = [own[part].mean(axis=0).round().astype(int) for part in parts]
            layers.append(
                tuple(
                    self.plan_heads(schedule, len(part), tuple(map(int, budget)))
                    for part, budget in zip(parts, budgets)
                )
            )
            order.append(tuple(int(head) for part in parts for head in part))
        return CachePlan(tuple(layers), tuple(order))

    def _parts(self, lengths):
        """The heads of a layer, by group, from their lengths after every scale."""
        read = lengths[:, : max(lengths.shape[1] - 1, 1)]  # nothing reads what the last one leaves
        if self.groups == 0:
            _, member = np.unique(read, axis=0, return_inverse=True)
            return [np.flatnonzero(member == group) for group in range(member.max() + 1)]
        order = np.argsort(read[:, -1], kind="stable")
        return np.array_split(order, min(self.groups, len(order)))

    def _lengths(self, schedule, shape, ranks):
        """Tokens that each head keeps after every scale by the timetable."""
        lengths = np.zeros((*shape, len(schedule)))
        sizes, sinks = np.array(schedule.lengths), self.forced(schedule)
        budget = self.share * schedule.offsets[-1] if self.share else self.budget
        for scale in range(len(schedule)):
            total = sizes[: scale + 1].sum()
            forgotten = shape.layers * shape.heads * (total - budget) / max(total - sinks, 1)
            kept = (ranks >= np.ceil(forgotten)) | (np.arange(len(schedule)) < self.sink_scales)
            lengths[..., scale] = (kept * sizes)[..., : scale + 1].sum(axis=-1)
        return lengths

    def _ranks(self, schedule, shape, profile):
        """By the file of orders, or by the profile, [layers, heads, scales]."""
        if self.orders:
            path = input_path(self.orders)
            return read_head_orders(path, schedule, shape, self.sink_scales)
        return _ranks(self.measured(profile).mass)

    def table(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> np.ndarray:
        """Rank of each scale, [layers, heads, scales]: the lowest is dropped first."""
        ranks = self._ranks(schedule, shape, profile).astype(np.float32)
        ranks[..., : self.sink_scales] = np.inf
        return ranks

    def score(
        self, union: KVCache, probe: Probe, group: GroupPlan
    ) -> Float[Array, "batch heads m"]:
        """The rank of the token's scale."""
        assert probe.table is not None  # what `table` gives
        return jnp.take_along_axis(probe.table[None], union.source(probe.schedule), axis=2)


def _ranks(mass: np.ndarray) -> np.ndarray:
    """For each source scale, the rank of each layer and head in ascending order of demand.

    Demand is the mean, over later scales, of the attention to the source scale.
    """
    layers, heads, scales, _ = mass.shape
    later = np.triu(np.ones((scales, scales)), 1).T  # queries' scale after keys' scale
    demand = np.sum(mass * later, axis=2) / np.maximum(later.sum(axis=0), 1)
    flat = demand.reshape(layers * heads, scales)
    return np.argsort(np.argsort(flat, axis=0, kind="stable"), axis=0).reshape(demand.shape)
