"""HACK: two kinds of heads, each with its own rule and budget."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Bool, Float, Int
from mvar_jax.cache.kv_cache import KVCache, take_tokens
from mvar_jax.cache.plan import AttentionShape, CachePlan, GroupPlan, spread_budget
from mvar_jax.cache.policies.base import MOST, Policy, Probe, attention_shares, spread
from mvar_jax.cache.profile import Profile
from mvar_jax.ops.parts import parts_of
from mvar_jax.scales import ScaleSchedule

CONTEXTUAL, STRUCTURAL = "contextual", "structural"
TOKENS_AT_ONCE = 512  # that are compared with all kept ones


@dataclass(frozen=True)
class HeadAware(Policy):
    """Splits heads in two kinds, by how much the attention that a key receives varies over queries.

    The `contextual_share` of all heads with the least variance, in any layer, is contextual: all
    queries attend to the same few keys. The others are structural: each query attends near its own
    position (HACK, arXiv 2504.09261, sections on head types).
    """

    needs: ClassVar[tuple[str, ...]] = ("head_variance",)

    contextual_share: float = 0.5
    queries: int = 32  # spread over the scale, whose attention scores the keys

    def __post_init__(self):
        super().__post_init__()
        self.check_range("contextual_share", 0.0, 1.0)
        self.check_range("queries", 1, MOST)

    def contextual(
        self, shape: AttentionShape, profile: Profile | None
    ) -> Bool[np.ndarray, "layers heads"]:
        """Which heads are contextual."""
        variance = self.measured(profile).head_variance
        ranks = np.argsort(np.argsort(variance, axis=None, kind="stable"))
        count = round(self.contextual_share * shape.layers * shape.heads)
        return (ranks < count).reshape(shape)

    def split(self, contextual: np.ndarray, plan_kind) -> CachePlan:
        """A plan with the contextual heads of every layer first, then the structural ones.

        `plan_kind(layer, kind, heads)` is the plan of one group.
        """
        layers = []
        for layer, row in enumerate(contextual):
            counts = {CONTEXTUAL: int(row.sum()), STRUCTURAL: int((~row).sum())}
            layers.append(tuple(plan_kind(layer, kind, n) for kind, n in counts.items() if n))
        order = np.argsort(~contextual, axis=1, kind="stable")
        return CachePlan(tuple(layers), tuple(tuple(map(int, row)) for row in order))

    def observed(self, union: KVCache, probe: Probe) -> Float[Array, "batch heads m"]:
        """Attention that each key receives from a few queries spread over the scale, summed."""
        chosen = spread(probe.tokens, self.queries)
        shares = attention_shares(probe.query[:, :, chosen], union.key, probe.softmax_scale)
        return jnp.sum(shares, axis=2)


@dataclass(frozen=True)
class Hack(HeadAware):
    """HACK, head-aware cache compression (arXiv 2504.09261).

    Contextual heads keep what a few queries attend to most. Structural heads keep the first
    `initial_scales` scales, the whole current scale, and the most attended tokens between them.
    Contextual heads get `contextual_budget` of all tokens (inferred: the paper's value is not
    known), at most half of the mean; structural heads get the rest. At the last scale the
    contextual heads' evicted tokens are merged into the nearest kept ones (`merge`).
    """

    name = "hack"

    contextual_budget: float = 0.1  # of all tokens
    initial_scales: int = 2
    merge: bool = True

    def __post_init__(self):
        super().__post_init__()
        self.check_range("contextual_budget", 0.0, 1.0)
        self.check_range("initial_scales", 0, MOST)

    def forced(self, schedule: ScaleSchedule) -> int:
        """The first scales."""
        return sum(schedule.lengths[: self.initial_scales])

    def plan(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> CachePlan:
        """Two groups per layer; the mean budget over all heads is `budget`."""
        contextual = self.contextual(shape, profile)
        counts = [int(contextual.sum()), int((~contextual).sum())]
        few = min(self.contextual_budget * schedule.total, self.budget / 2)
        many = (self.budget * sum(counts) - few * counts[0]) / max(counts[1], 1)
        used = [kind for kind in (0, 1) if counts[kind]]
        filled = spread_budget(
            [(few, many)[kind] for kind in used],
            [counts[kind] for kind in used],
            self.budget,
            1,
            schedule.total,
        )
        budgets = dict(zip([(CONTEXTUAL, STRUCTURAL)[kind] for kind in used], filled))

        def plan_kind(layer, kind, heads):
            return self.plan_heads(schedule, heads, (budgets[kind],) * len(schedule), kind)

        return self.split(contextual, plan_kind)

    def score(
        self, union: KVCache, probe: Probe, group: GroupPlan
    ) -> Float[Array, "batch heads m"]:
        """Attention; structural heads rank the first scales and the current one above it."""
        observed = self.observed(union, probe)
        if group.kind == CONTEXTUAL:
            return observed
        initial = union.position < self.forced(probe.schedule)
        current = union.position >= probe.schedule.offsets[probe.scale]
        if min(group.lengths(probe.scale)) >= self.forced(probe.schedule) + probe.tokens:
            return jnp.where(initial | current, jnp.inf, observed)
        # The current scale does not fit: the first scales, then the best of the current one.
        return jnp.where(initial, jnp.inf, jnp.where(current, observed, -1))

    def gather(
        self,
        key: Float[Array, "batch heads m dim"],
        value: Float[Array, "batch heads m dim"],
        indices: Int[Array, "batch heads kept"],
        probe: Probe,
        group: GroupPlan,
    ) -> tuple[Float[Array, "batch heads kept dim"], Float[Array, "batch heads kept dim"]]:
        """The chosen tokens; contextual heads merge the others into them at the last scale."""
        last = probe.scale == len(probe.schedule) - 1
        if not (self.merge and last and group.kind == CONTEXTUAL):
            return take_tokens(key, indices), take_tokens(value, indices)
        return merge_evicted(key, value, indices)


def merge_evicted(
    key: Float[Array, "batch heads m dim"],
    value: Float[Array, "batch heads m dim"],
    indices: Int[Array, "batch heads kept"],
) -> tuple[Float[Array, "batch heads kept dim"], Float[Array, "batch heads kept dim"]]:
    """Means of each kept token and the evicted tokens that are nearest to it.

    Similarity is the cosine of keys (as in LOOK-M, which HACK refers to; plain means are
    inferred). A merged key has the mean of its group's norms, so that unit keys stay unit keys.
    """

    def one_head(key, value, indices):
        norms = jnp.linalg.norm(key, axis=-1)
        unit = key / jnp.maximum(norms, 1e-12)[:, None]
        kept = unit[indices]
        at_once = -(-len(unit) // parts_of(len(unit), TOKENS_AT_ONCE))
        nearest = jax.lax.map(lambda one: jnp.argmax(kept @ one), unit, batch_size=at_once)
        nearest = nearest.at[indices].set(jnp.arange(len(indices)))
        counts = jnp.zeros(len(indices)).at[nearest].add(1)

        def means(array):
            sums = jnp.zeros((len(indices), *array.shape[1:]), array.dtype).at[nearest].add(array)
            return sums / (counts if array.ndim == 1 else counts[:, None])

        merged = means(key)
        length = jnp.maximum(jnp.linalg.norm(merged, axis=-1), 1e-12)
        return merged * (means(norms) / length)[:, None], means(value)

    wide_key, wide_value = (
        array.astype(jnp.promote_types(array.dtype, jnp.float32)) for array in (key, value)
    )
    merged = jax.vmap(jax.vmap(one_head))(wide_key, wide_value, indices)
    return tuple(new.astype(array.dtype) for new, array in zip(merged, (key, value)))
