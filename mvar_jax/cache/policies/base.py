"""The base class of policies: a plan of static lengths, and a pure selection at every scale."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float, Int
from mvar_jax.cache.kv_cache import KVCache, take_tokens
from mvar_jax.cache.plan import AttentionShape, CachePlan, GroupPlan, plan_group
from mvar_jax.cache.profile import Profile
from mvar_jax.checks import check, check_given, check_range
from mvar_jax.scales import ScaleSchedule

ORDERS = ("before", "after")
MOST = 2**31 - 1  # the largest value of any count
POLICIES: dict[str, type["Policy"]] = {}  # by name


@dataclass(frozen=True)
class Probe:
    """What a policy can use besides the tokens; what it does not use is never computed."""

    schedule: ScaleSchedule
    scale: int  # static
    query: Array  # as attention uses it, [batch, heads, n, dim]
    raw_query: Array  # before bias, normalisation and rotation, [batch, heads, n, dim]
    softmax_scale: float
    table: Array | None  # the policy's calibrated table for these heads, [heads, ...]

    @property
    def tokens(self) -> int:
        """Tokens of this scale; they are the last ones of the union."""
        return self.schedule.lengths[self.scale]


class Selection(NamedTuple):
    """Indices into cache and new tokens, int32 [batch, heads, ...], ascending; None for all.

    `attend` is what this scale attends to, `keep` what the next scale inherits. `score`
    [batch, heads, m] is the new accumulated score, for policies that are `scored`.
    """

    attend: Array | None = None
    keep: Array | None = None
    score: Array | None = None


@dataclass(frozen=True)
class Policy:
    """Keeps `budget` tokens per head, on average over heads and layers; static under jit.

    With `order` "before" a scale's tokens are appended to the cache, this union is cut, and the
    scale attends to what is left; with "after" it attends to the whole union, which is then cut for
    the next scale. A new policy has a name and a score:

        @dataclass(frozen=True)
        class Loudest(Policy):
            name = "loudest"

            def score(self, union, probe, group):
                return jnp.linalg.norm(union.value, axis=-1)

    Raises ValueError for an unknown order.
    """

    name: ClassVar[str] = ""
    scored: ClassVar[bool] = False  # whether the cache accumulates a score over the scales
    needs: ClassVar[tuple[str, ...]] = ()  # fields of a profile that it is planned by

    budget: int
    order: str = "before"

    def __init_subclass__(cls, **arguments):
        super().__init_subclass__(**arguments)
        if "name" in vars(cls):  # not inherited
            known = POLICIES.setdefault(cls.name, cls)
            same = (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__)
            check(same, f"policy {cls.name}: there is one of that name; choose another.")
            POLICIES[cls.name] = cls

    def __post_init__(self):
        check(
            self.order in ORDERS,
            f"policy {self.name}: got order {self.order!r}, expected one of {ORDERS}.",
        )

    def check_range(self, setting: str, low: int | float, high: int | float) -> None:
        """Raises ValueError unless a setting lies within [low, high]."""
        check_range(f"policy {self.name}: {setting}", getattr(self, setting), low, high)

    def check_pool(self, pool: int) -> None:
        """Raises ValueError unless the pooling window `pool` is odd and at least 1."""
        check(
            pool >= 1 and pool % 2 == 1,
            f"policy {self.name}: got pool {pool}, expected an odd number of at least 1.",
        )

    @classmethod
    def fixed_budget(cls, schedule: ScaleSchedule, settings: Mapping[str, Any]) -> int | None:
        """The budget in tokens where the policy or its settings fix it, else None."""
        return None

    def needed(self) -> tuple[str, ...]:
        """The fields of a profile that it needs with its settings; by default all of `needs`."""
        return self.needs

    def forced(self, schedule: ScaleSchedule) -> int:
        """How many tokens every head keeps whatever their score; the budget must be larger."""
        return 0

    def measured(self, profile: Profile | None) -> Profile:
        """The profile, for policies that `needs` one. Raises ValueError if it lacks anything."""
        how = "make one with python -m mvar_jax.calibrate and name it by --profile."
        names = ", ".join(self.needs)
        found = check_given(profile, f"policy {self.name}: it needs a profile ({names}); {how}")
        missing = [name for name in self.needs if getattr(found, name) is None]
        check(not missing, f"policy {self.name}: the profile has no {', '.join(missing)}; {how}")
        return found

    def plan(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> CachePlan:
        """The length of every cache at every scale. The default: `budget` everywhere."""
        budgets = (self.budget,) * len(schedule)
        return CachePlan(((self.plan_heads(schedule, shape.heads, budgets),),) * shape.layers)

    def plan_heads(
        self, schedule: ScaleSchedule, heads: int, budgets: tuple[int, ...], kind: str = ""
    ) -> GroupPlan:
        """A group that is cut to `budgets[k]` at scale k, in the policy's order."""
        attend = budgets if self.order == "before" else None
        return plan_group(schedule, heads, budgets, attend, kind)

    def table(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> np.ndarray | None:
        """The calibrated table for `score`, float32 [layers, heads, ...], in the model's order."""
        return None

    def score(
        self, union: KVCache, probe: Probe, group: GroupPlan
    ) -> Float[Array, "batch heads m"]:
        """The score of each token; the highest are kept, and of equal ones the earlier."""
        raise NotImplementedError(f"{type(self).__name__} has no score.")

    def choose(
        self, score: Float[Array, "batch heads m"], count: int, probe: Probe
    ) -> Int[Array, "batch heads kept"]:
        """The indices of `count` tokens, ascending; by default those with the highest score."""
        return best(score, count)

    def select(self, union: KVCache, probe: Probe, group: GroupPlan) -> Selection:
        """What this scale attends to and the next inherits, in the numbers of the plan."""
        attend, keep = group.lengths(probe.scale)
        if min(attend, keep) >= union.length and not self.scored:
            return Selection()
        score = self.score(union, probe, group)

        def chosen(count):
            return None if count >= union.length else self.choose(score, count, probe)

        seen = chosen(attend)
        kept = seen if keep == attend else chosen(keep)
        return Selection(seen, kept, score if self.scored else None)

    def gather(
        self,
        key: Float[Array, "batch heads m dim"],
        value: Float[Array, "batch heads m dim"],
        indices: Int[Array, "batch heads kept"],
        probe: Probe,
        group: GroupPlan,
    ) -> tuple[Float[Array, "batch heads kept dim"], Float[Array, "batch heads kept dim"]]:
        """The keys and values that the scale attends to, at the chosen indices."""
        return take_tokens(key, indices), take_tokens(value, indices)


def best(score: Float[Array, "batch heads m"], count: int) -> Int[Array, "batch heads kept"]:
    """The indices of the highest scores, ascending; of equal scores, the earlier ones."""
    return jnp.sort(jax.lax.top_k(score, count)[1], axis=-1)


def attention_shares(
    query: Float[Array, "batch heads n dim"],
    key: Float[Array, "batch heads m dim"],
    softmax_scale: float,
) -> Float[Array, "batch heads n m"]:
    """Attention weights of some queries over all keys, float32."""
    logits = jnp.einsum("bhnd,bhmd->bhnm", query, key, preferred_element_type=jnp.float32)
    return jax.nn.softmax(logits * softmax_scale, axis=-1)


def spread(count: int, chosen: int) -> np.ndarray:
    """`chosen` indices (all, if fewer) spread evenly over `count`, both ends included."""
    return np.unique(np.linspace(0, count - 1, min(count, chosen)).round().astype(np.int32))
