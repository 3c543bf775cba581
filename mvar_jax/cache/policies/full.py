"""Everything is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mvar_jax.cache.plan import AttentionShape, CachePlan, plan_full
from mvar_jax.cache.policies.base import Policy
from mvar_jax.cache.profile import Profile
from mvar_jax.scales import ScaleSchedule


@dataclass(frozen=True)
class Full(Policy):
    """The cache without compression; the last scale is never stored. The budget is ignored."""

    name = "full"

    budget: int = 0

    @classmethod
    def fixed_budget(cls, schedule: ScaleSchedule, settings: Mapping[str, Any]) -> int:
        """All tokens."""
        return schedule.total

    def plan(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> CachePlan:
        """Every token of every scale."""
        return plan_full(schedule, shape)
