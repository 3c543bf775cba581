"""AMS-KV: the first scales and the latest ones, and more of them where keys change by scale."""

from dataclasses import dataclass

import numpy as np

from mvar_jax.array_types import Bool
from mvar_jax.cache.plan import AttentionShape, CachePlan, spread_budget
from mvar_jax.cache.policies.base import MOST
from mvar_jax.cache.policies.streaming_llm import StreamingLLM
from mvar_jax.cache.profile import Profile
from mvar_jax.scales import ScaleSchedule


@dataclass(frozen=True)
class AMSKV(StreamingLLM):
    """AMS-KV (arXiv 2511.16047): scales are dropped oldest first, but never the first ones.

    The first `sink_scales` scales are kept, and of the others the latest. Layers whose keys differ
    from scale to scale, by a mean similarity below `threshold`, are demanding and get
    `demanding_weight` times the budget of the others. Threshold and weight are inferred, and so is
    that the oldest scale that is left may be kept in part, its last tokens, so that the mean over
    layers is the budget.
    """

    name = "ams_kv"
    needs = ("key_similarity",)

    order: str = "after"
    threshold: float = 0.5
    demanding_weight: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        self.check_range("threshold", -1.0, 1.0)
        self.check_range("demanding_weight", 1.0, MOST)

    def demanding(self, profile: Profile | None) -> Bool[np.ndarray, "layers"]:
        """The layers whose keys differ from scale to scale, by the mean over all but the first."""
        similarity = self.measured(profile).key_similarity
        assert similarity is not None  # it is measured
        return similarity[:, 1:].mean(axis=1) < self.threshold

    def plan(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> CachePlan:
        """One group per layer; at every scale the mean over layers is the budget."""
        shares = np.where(self.demanding(profile), self.demanding_weight, 1.0).tolist()
        heads, least = [shape.heads] * shape.layers, self.forced(schedule) + 1
        budgets = []
        for seen in map(int, np.cumsum(schedule.lengths)):
            mean = min(self.budget, seen)
            budgets.append(spread_budget(shares, heads, mean, min(least, seen), seen))
        return CachePlan(
            tuple((self.plan_heads(schedule, shape.heads, own),) for own in zip(*budgets))
        )
