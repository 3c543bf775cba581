"""SnapKV with larger budgets for early layers."""

from dataclasses import dataclass

from mvar_jax.cache.plan import AttentionShape, CachePlan, spread_budget
from mvar_jax.cache.policies.snapkv import SnapKV
from mvar_jax.cache.profile import Profile
from mvar_jax.scales import ScaleSchedule


@dataclass(frozen=True)
class PyramidKV(SnapKV):
    """PyramidKV (Cai et al., arXiv 2406.02069): layer budgets fall linearly with depth.

    From the first layer to the last they fall by `slope` (0 to 2) times the mean budget. Every
    layer gets at least the window and one more token, and at most all tokens.
    """

    name = "pyramidkv"

    slope: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        self.check_range("slope", 0.0, 2.0)

    def plan(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> CachePlan:
        """One group per layer."""
        steps = max(shape.layers - 1, 1)
        shares = [1 + self.slope * (0.5 - layer / steps) for layer in range(shape.layers)]
        low = min(self.forced(schedule) + 1, schedule.total)
        budgets = spread_budget(
            shares, [shape.heads] * shape.layers, self.budget, low, schedule.total
        )
        return CachePlan(
            tuple(
                (self.plan_heads(schedule, shape.heads, (budget,) * len(schedule)),)
                for budget in budgets
            )
        )
