"""ScaleKV: drafter layers keep the history and refiners little of it, at each scale."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Bool, Float, Int
from mvar_jax.cache.kv_cache import KVCache
from mvar_jax.cache.plan import AttentionShape, CachePlan, GroupPlan
from mvar_jax.cache.policies.base import MOST, Policy, Probe, attention_shares
from mvar_jax.cache.policies.scalekv_budgets import PUBLISHED, Budgets
from mvar_jax.cache.policies.snapkv import average_pool, max_pool
from mvar_jax.cache.profile import Profile
from mvar_jax.checks import check
from mvar_jax.scales import ScaleSchedule

SCORINGS = ("exact", "official")


@dataclass(frozen=True)
class ScaleKV(Policy):
    """ScaleKV (arXiv 2505.19602).

    Of all pairs of layer and scale, the `drafter_share` whose attention is least selective are
    drafters: their cache keeps everything, and the refiners share what the mean budget leaves
    (the published tables follow this rule). Nothing is cut until the history exceeds the budget.
    The observation window, the centre tokens of a `grid` x `grid` partition of the current map,
    is kept; the other tokens are ranked by its queries. `scoring` "exact" is the paper: softmax of
    the queries that attention uses, average pooling; "official" is the published code: queries
    before bias and normalisation, no softmax, max pooling.

    `budgets` names a published table (`scalekv_budgets.PUBLISHED`) in place of budget and profile:
    Infinity as released is `budgets="infinity-2b", scoring="official"`.
    """

    name = "scalekv"
    needs = ("selectivity",)

    order: str = "after"
    scoring: str = "exact"
    drafter_share: float = 0.1
    grid: int = 4
    pool: int = 5
    budgets: str = ""

    def __post_init__(self):
        super().__post_init__()
        check(
            self.scoring in SCORINGS,
            f"policy scalekv: got scoring {self.scoring!r}, expected one of {SCORINGS}.",
        )
        self.check_range("drafter_share", 0.0, 1.0)
        self.check_range("grid", 1, MOST)
        self.check_pool(self.pool)

    @classmethod
    def fixed_budget(cls, schedule: ScaleSchedule, settings: Mapping[str, Any]) -> int | None:
        """The length of caches that published budgets leave alone."""
        name = settings.get("budgets", "")
        return min(_published(name).base, schedule.total) if name else None

    def needed(self) -> tuple[str, ...]:
        """No measurement, if the budgets are published."""
        return () if self.budgets else self.needs

    def forced(self, schedule: ScaleSchedule) -> int:
        """The observation window."""
        return self.grid**2

    def drafters(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> Bool[np.ndarray, "layers scales"]:
        """Which layers keep the whole history for each scale that reads it: the lowest scores."""
        index = self.measured(profile).selectivity
        scores = (index - index.mean(axis=0)) / (index.std(axis=0) + 1e-12)
        # Only scales whose history can exceed the budget are classified.
        long = np.array(schedule.offsets) > self.budget
        candidates = np.where(long, scores, np.inf)
        count = round(self.drafter_share * shape.layers * long.sum())
        ranks = np.argsort(np.argsort(candidates, axis=None, kind="stable"))
        return (ranks < count).reshape(scores.shape)

    def plan(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> CachePlan:
        """One group per layer; at every scale the mean over layers is the budget."""
        if self.budgets:
            budgets = self._tabled(schedule, shape)
        else:
            budgets = self._calibrated(schedule, shape, profile)
        return CachePlan(
            tuple(
                (self.plan_heads(schedule, shape.heads, tuple(map(int, row))),) for row in budgets
            )
        )

    def _tabled(self, schedule, shape):
        """Published budgets, [layers, scales], from the scale on whose history exceeds the base."""
        table = _published(self.budgets)
        rows = []
        for scale, history in enumerate(np.cumsum(schedule.lengths)):
            rows.append((history,) * shape.layers if history <= table.base else table.after(scale))
            check(
                len(rows[-1]) == shape.layers,
                f"policy scalekv: budgets {self.budgets!r} are for {len(rows[-1])} layers, but the "
                f"model has {shape.layers}; take the budgets of the model.",
            )
        least = min(map(min, table.rows.values()))
        check(
            least >= self.forced(schedule),
            f"policy scalekv: budgets {self.budgets!r} go down to {least} tokens, fewer than the "
            f"{self.forced(schedule)} of the window; choose a smaller grid.",
        )
        return np.array(rows).T

    def _calibrated(self, schedule, shape, profile):
        """Budgets by the profile, [layers, scales]."""
        drafters = self.drafters(schedule, shape, profile)
        budgets = np.zeros((shape.layers, len(schedule)), int)
        for scale in range(len(schedule)):
            reader = min(scale + 1, len(schedule) - 1)  # the scale that will read this cache
            budgets[:, scale] = self._share(schedule, scale, drafters[:, reader])
        return budgets

    def _share(self, schedule, scale, drafts):
        """Budgets of all layers after one scale."""
        history = sum(schedule.lengths[: scale + 1])
        if history <= self.budget:
            return np.full(len(drafts), history)
        least, layers, count = self.forced(schedule) + 1, len(drafts), int(drafts.sum())
        full = min(history, (self.budget * layers - least * (layers - count)) // max(count, 1))
        rest = (self.budget * layers - full * count) // max(layers - count, 1)
        return np.where(drafts, full, min(rest, history))

    def score(
        self, union: KVCache, probe: Probe, group: GroupPlan
    ) -> Float[Array, "batch heads m"]:
        """Pooled scores from the window's queries; `choose` adds the window itself."""
        window = self._window(union.length, probe)
        rows = np.maximum(window - (union.length - probe.tokens), 0)  # of this scale's queries
        if self.scoring == "official":
            query = probe.raw_query[:, :, rows]
            return official_scores(query, union.key, window, self.pool, max_pool)
        query = probe.query[:, :, rows]
        votes = jnp.sum(attention_shares(query, union.key, probe.softmax_scale), axis=2)
        return average_pool(votes, self.pool).at[:, :, window].set(-jnp.inf)

    def choose(
        self, score: Float[Array, "batch heads m"], count: int, probe: Probe
    ) -> Int[Array, "batch heads kept"]:
        """The window, and the best others."""
        return choose_beside(score, count, self._window(score.shape[-1], probe))

    def _window(self, length, probe):
        size = probe.schedule.sizes[probe.scale]
        return observation_window(size, self.grid, length)


def _published(name: str) -> Budgets:
    check(
        name in PUBLISHED,
        f"policy scalekv: got budgets {name!r}, expected one of {', '.join(PUBLISHED)}.",
    )
    return PUBLISHED[name]


def observation_window(size: tuple[int, int], grid: int, length: int) -> Int[np.ndarray, "window"]:
    """Indices of the window's tokens among `length` tokens, the last of which are the current map.

    They are the centre tokens of a `grid` x `grid` partition of the map, or the last `grid`**2
    tokens if a side of the map is shorter than `grid`.
    """
    height, width = size
    if min(size) < grid:
        return np.arange(max(0, length - grid**2), length)
    rows, columns = (np.arange(grid) * (side // grid) + (side // grid - 1) // 2 for side in size)
    return (length - height * width + rows[:, None] * width + columns).reshape(-1)


def official_scores(
    query: Float[Array, "batch heads n dim"],
    key: Float[Array, "batch heads m dim"],
    window: Int[np.ndarray, "window"],
    kernel: int,
    pool: Callable,
) -> Float[Array, "batch heads m"]:
    """Dot products with the window's queries / sqrt(dim), summed and pooled, without softmax.

    As in the published code, the window is set to -inf before and after pooling.
    """
    products = jnp.einsum("bhnd,bhmd->bhnm", query, key, preferred_element_type=jnp.float32)
    votes = jnp.sum(products * key.shape[-1] ** -0.5, axis=2)
    pooled = pool(votes.at[:, :, window].set(-jnp.inf), kernel)
    return pooled.at[:, :, window].set(-jnp.inf)


def choose_beside(
    score: Float[Array, "batch heads m"], count: int, window: Int[np.ndarray, "window"]
) -> Int[Array, "batch heads kept"]:
    """Indices of the window and of the best others, `count` in total, ascending."""
    others = jax.lax.top_k(score, count - len(window))[1]
    kept = jnp.broadcast_to(jnp.asarray(window, others.dtype), (*others.shape[:2], len(window)))
    return jnp.sort(jnp.concatenate([others, kept], axis=-1), axis=-1)
