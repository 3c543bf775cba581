"""HeatKV: heads drop whole scales, by a fixed timetable."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float
from mvar_jax.cache.kv_cache import KVCache
from mvar_jax.cache.plan import AttentionShape, CachePlan, GroupPlan
from mvar_jax.cache.policies.base import MOST, Policy, Probe
from mvar_jax.cache.profile import Profile
from mvar_jax.scales import ScaleSchedule


@dataclass(frozen=True)
class HeatKV(Policy):
    """HeatKV (arXiv 2605.14877): calibration alone decides which head drops which scale.

    For each source scale, all heads of all layers are ranked by how much later scales attend to
    it. Before the caches exceed the budget, the heads of the lowest ranks drop that scale, equally
    many for each source scale. The first `sink_scales` scales are kept. So that arrays are
    rectangular, the heads of a layer are put into `groups` of similar length, each with the mean
    length of its heads; a scale that does not fit completely is kept in part.
    """

    name = "heatkv"
    needs = ("mass",)

    order: str = "after"
    sink_scales: int = 3
    groups: int = 2

    def __post_init__(self):
        super().__post_init__()
        self.check_range("sink_scales", 0, MOST)
        self.check_range("groups", 1, MOST)

    def forced(self, schedule: ScaleSchedule) -> int:
        """The first scales."""
        return sum(schedule.lengths[: self.sink_scales])

    def plan(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> CachePlan:
        """Groups of heads with similar numbers of remaining tokens."""
        lengths = self._lengths(schedule, shape, _ranks(self.measured(profile).mass))
        readers = lengths[..., -2] if len(schedule) > 1 else lengths[..., -1]
        order = np.argsort(readers, axis=1, kind="stable")
        layers = []
        for layer, heads in enumerate(order):
            parts = np.array_split(heads, min(self.groups, shape.heads))
            budgets = [lengths[layer, part].mean(axis=0).round().astype(int) for part in parts]
            layers.append(
                tuple(
                    self.plan_heads(schedule, len(part), tuple(map(int, budget)))
                    for part, budget in zip(parts, budgets)
                )
            )
        return CachePlan(tuple(layers), tuple(tuple(map(int, heads)) for heads in order))

    def _lengths(self, schedule, shape, ranks):
        """Tokens that each head keeps after every scale by the timetable."""
        lengths = np.zeros((*shape, len(schedule)))
        sizes, sinks = np.array(schedule.lengths), self.forced(schedule)
        for scale in range(len(schedule)):
            total = sizes[: scale + 1].sum()
            excess = max(0, (total - self.budget) / max(total - sinks, 1))
            removed = np.ceil(shape.layers * shape.heads * excess)
            kept = (ranks >= removed) | (np.arange(len(schedule)) < self.sink_scales)
            lengths[..., scale] = (kept * sizes)[..., : scale + 1].sum(axis=-1)
        return lengths

    def table(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> np.ndarray:
        """Rank of each scale, [layers, heads, scales]: the lowest is dropped first."""
        ranks = _ranks(self.measured(profile).mass).astype(np.float32)
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
