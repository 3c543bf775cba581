"""What a policy is: a plan of static lengths, and a pure choice of tokens at every scale."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

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
MOST = 2**31 - 1  # of any count
POLICIES: dict[str, type["Policy"]] = {}  # by name


@dataclass(frozen=True)
class Probe:
    """What a policy may look at besides the tokens; what it does not use is never computed."""

    schedule: ScaleSchedule
    scale: int  # static
    query: Array  # as attention uses it, [batch, heads, n, dim]
    raw_query: Array  # before bias, normalisation and rotation, [batch, heads, n, dim]
    softmax_scale: float
    table: Array | None  # the policy's calibrated numbers of these heads, [heads, ...]

    @property
    def tokens(self) -> int:
        """Tokens of this scale; they are the last ones of the union."""
        return self.schedule.lengths[self.scale]


class Selection(NamedTuple):
    """Places in what is at hand, int32 [batch, heads, ...] in ascending order; None for all.

    `attend` is what this scale sees, `keep` what the next inherits. `score` [batch, heads, m]
    replaces what the cache adds up over the scales, where it does.
    """

    attend: Array | None = None
    keep: Array | None = None
    score: Array | None = None


@dataclass(frozen=True)
class Policy:
    """Keeps `budget` tokens a head, on average over heads and layers; static under jit.

    With `order` "before" a scale's tokens join the cache, the union is cut, and the scale
    attends to what is left; with "after" it attends to the whole union, which is then cut for
    the next scale. A policy of one's own names itself, scores tokens, and perhaps plans:

        @dataclass(frozen=True)
        class Loudest(Policy):
            name = "loudest"

            def score(self, union, probe, group):
                return jnp.linalg.norm(union.value, axis=-1)

    Raises ValueError for an unknown order.
    """

    name: ClassVar[str] = ""
    scored: ClassVar[bool] = False  # whether the cache adds up a score over the scales
    needs: ClassVar[tuple[str, ...]] = ()  # what it wants from a profile, by field

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
        """Raises ValueError unless `pool` neighbours can be centred on a token."""
        check(
            pool >= 1 and pool % 2 == 1,
            f"policy {self.name}: got pool {pool}, expected an odd number of at least 1.",
        )

    def forced(self, schedule: ScaleSchedule) -> int:
        """Tokens that every head keeps whatever their score; the budget must exceed them."""
        return 0

    def measured(self, profile: Profile | None) -> Profile:
        """The profile, which a policy that `needs` one is given. Raises ValueError without it."""
        return check_given(
            profile,
            f"policy {self.name}: it needs a profile ({', '.join(self.needs)}); make one with "
            "python -m mvar_jax.calibrate and name it by --profile.",
        )

    def plan(
        self, schedule: ScaleSchedule, shape: AttentionShape, profile: Profile | None
    ) -> CachePlan:
        """How long every cache is at every scale. The default: `budget` everywhere."""
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
        """Calibrated numbers that scoring uses, float32 [layers, heads, ...], in model order."""
        return None

    def score(
        self, union: KVCache, probe: Probe, group: GroupPlan
    ) -> Float[Array, "batch heads m"]:
        """What each token at hand is worth; of equals, the earlier one is kept."""
        raise NotImplementedError(f"{type(self).__name__} has no score.")

    def choose(
        self, score: Float[Array, "batch heads m"], count: int, probe: Probe
    ) -> Int[Array, "batch heads kept"]:
        """The places of `count` tokens, ascending: the default is those of highest score."""
        return best(score, count)

    def select(self, union: KVCache, probe: Probe, group: GroupPlan) -> Selection:
        """What this scale attends to and what the next inherits: as many as the plan says."""
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
        """The keys and values that the scale attends to, at the chosen places."""
        return take_tokens(key, indices), take_tokens(value, indices)


def best(score: Float[Array, "batch heads m"], count: int) -> Int[Array, "batch heads kept"]:
    """The places of the highest scores in ascending order; of equals, the earlier ones."""
    return jnp.sort(jax.lax.top_k(score, count)[1], axis=-1)


def attention_shares(
    query: Float[Array, "batch heads n dim"],
    key: Float[Array, "batch heads m dim"],
    softmax_scale: float,
) -> Float[Array, "batch heads n m"]:
    """Softmax attention of some queries over all keys, float32."""
    logits = jnp.einsum("bhnd,bhmd->bhnm", query, key, preferred_element_type=jnp.float32)
    return jax.nn.softmax(logits * softmax_scale, axis=-1)


def spread(count: int, chosen: int) -> np.ndarray:
    """`chosen` places (all, if fewer) that are spread evenly over `count`, ends included."""
    return np.unique(np.linspace(0, count - 1, min(count, chosen)).round().astype(np.int32))
