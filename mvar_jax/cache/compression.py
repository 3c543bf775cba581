"""A policy prepared for a model: its plan, its calibrated table, and how tokens are stored."""

import math
from dataclasses import fields

import flax.struct
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Leaf
from mvar_jax.cache.kv_cache import KVCache, position_dtype
from mvar_jax.cache.layer_cache import LayerCache
from mvar_jax.cache.plan import AttentionShape, CachePlan, plan_full
from mvar_jax.cache.policies import POLICIES, Policy
from mvar_jax.cache.policies.base import ORDERS
from mvar_jax.cache.policies.full import Full
from mvar_jax.cache.profile import Profile
from mvar_jax.checks import check
from mvar_jax.scales import ScaleSchedule

INT8 = "int8"
KINDS = {
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    bool: (bool, "true or false"),
    str: (str, "a word"),
}


@flax.struct.dataclass
class Compression:
    """Everything that decides what a model's attention caches; all but `table` is static."""

    table: Leaf  # of the policy, float32 [layers, heads, ...] in the plan's order of heads, or None
    policy: Policy = flax.struct.field(pytree_node=False)
    plan: CachePlan = flax.struct.field(pytree_node=False)
    schedule: ScaleSchedule = flax.struct.field(pytree_node=False)
    int8: bool = flax.struct.field(pytree_node=False, default=False)

    def empty_layer(self, layer: int, batch: int, dim: int, dtype: jnp.dtype) -> LayerCache:
        """The cache of one layer before the first scale."""
        plan = self.plan.layers[layer]
        groups = tuple(
            KVCache.empty(
                batch, group.heads, dim, dtype, self.schedule, self.int8, self.policy.scored
            )
            for group in plan
        )
        table = None if self.table is None else self.table[layer]
        return LayerCache(groups, table, plan, self.policy, self.schedule)

    def bytes(self, batch: int, dim: int, dtype: jnp.dtype) -> tuple[int, ...]:
        """Bytes that the plan keeps after every scale, for `batch` rows.

        A token of a head takes its key, its value, its position, and, if the policy or the storage
        has them, a float32 score and two float32 scales.
        """
        itemsize = 1 if self.int8 else jnp.dtype(dtype).itemsize
        numbers = 4 * (self.policy.scored + 2 * self.int8)
        token = 2 * dim * itemsize + position_dtype(self.schedule).itemsize + numbers
        return tuple(batch * kept * token for kept in self.plan.kept)

    def summary(self, dim: int, dtype: jnp.dtype) -> str:
        """What the last scale inherits, in the conventions of HACK and of ScaleKV, and in bytes.

        Bytes are the most that one image with guidance (two rows) carries between scales.
        """
        plan, schedule = self.plan, self.schedule
        heads = sum(group.heads for layer in plan.layers for group in layer)
        history = schedule.total - schedule.lengths[-1]
        shape = AttentionShape(len(plan.layers), heads // len(plan.layers))
        full = prepare_compression("full", schedule, shape)
        sizes = [max(each.bytes(2, dim, dtype)) / 2**20 for each in (self, full)]
        return (
            f"{plan.inherited:.1f} tokens a head, {plan.inherited / schedule.total:.1%} of all "
            f"{schedule.total} and {plan.inherited / max(history, 1):.1%} of the {history} that "
            f"the last scale could inherit; {sizes[0]:.3f} MiB an image, the full cache "
            f"{sizes[1]:.3f} MiB"
        )


def parse_policy(name: str) -> tuple[type[Policy], str | None, bool]:
    """Policy, order (None if not given) and 8-bit storage of a name such as "hack@before+int8".

    Raises ValueError for any other name.
    """
    plain, *storage = name.split("+")
    plain, *order = plain.split("@")
    check(
        plain in POLICIES
        and storage in ([], [INT8])
        and order in ([], *([order] for order in ORDERS)),
        f"policy: got {name!r}, expected one of {', '.join(sorted(POLICIES))}, with @before or "
        f"@after and +{INT8} behind it if wanted.",
    )
    return POLICIES[plain], order[0] if order else None, storage == [INT8]


def evicts(name: str) -> bool:
    """Whether a policy by name may drop tokens: all but "full", also with another storage."""
    return parse_policy(name)[0] is not Full


EVICTING = tuple(name for name in sorted(POLICIES) if evicts(name))
"""The names of all policies that may drop tokens."""


def prepare_compression(
    name: str,
    schedule: ScaleSchedule,
    shape: AttentionShape,
    *,
    ratio: float | None = None,
    budget: int | None = None,
    profile: Profile | None = None,
    **settings,
) -> Compression:
    """A policy by name, planned for a schedule and a model's attention.

    A policy that would never drop anything becomes "full". Raises ValueError, in one sentence, for
    whatever cannot work.

    name: one of `POLICIES`, with "@before" or "@after" for another order than the policy's
        default, and "+int8" for 8-bit storage: "hack", "scalekv@before", "full+int8".
    schedule, shape: the scales, and the layers and heads of attention over the history.
    ratio: the share of all scales' tokens that is evicted, as in HACK, above 0 and below 1.
    budget: the tokens that a head keeps, on average over heads and layers; in place of `ratio`.
        "full" takes neither, nor do policies whose settings say how much they keep.
    profile: of a calibration, for policies that need one.
    settings: further fields of the policy.
    """
    check(
        shape.layers > 0,
        "policy: the model has no attention over the history, so there is no cache to compress; "
        "its memory is constant over the scales: leave the policy out.",
    )
    kind, order, int8 = parse_policy(name)
    if order is not None:
        check(
            settings.get("order", order) == order,
            f"policy {name}: got order {settings.get('order')!r} too, expected one of the two.",
        )
        settings["order"] = order
    _check_settings(name, kind, settings)
    fixed = kind.fixed_budget(schedule, settings)
    policy = kind(_budget(kind.name, schedule, ratio, budget, fixed), **settings)
    _check_budget(policy, schedule)
    if policy.needed():
        policy.measured(profile)
    plan, full = policy.plan(schedule, shape, profile), plan_full(schedule, shape)
    if (plan.kept, plan.attended) == (full.kept, full.attended):
        return Compression(None, Full(), full, schedule, int8)
    table = policy.table(schedule, shape, profile)
    if table is not None and plan.head_order is not None:
        table = np.stack([row[list(order)] for row, order in zip(table, plan.head_order)])
    return Compression(table, policy, plan, schedule, int8)


def _check_settings(name, policy, settings):
    """Raises ValueError unless every setting is a field of the policy and has its type."""
    known = {field.name: field.type for field in fields(policy) if field.name != "budget"}
    for setting, value in settings.items():
        check(setting in known, f"policy {name}: got a setting {setting!r}, it has {list(known)}.")
        types, words = KINDS.get(known[setting], (known[setting], known[setting].__name__))
        right = isinstance(value, types) and isinstance(value, bool) == (known[setting] is bool)
        check(
            right and (not isinstance(value, float) or math.isfinite(value)),
            f"policy {name}: got {setting} {value!r}, expected {words}.",
        )


def _budget(name, schedule, ratio, budget, fixed):
    if fixed is not None:
        check(
            ratio is None and budget is None,
            f"policy {name}: how much it keeps is settled already; leave ratio and budget out.",
        )
        return fixed
    check(
        (ratio is None) != (budget is None),
        f"policy {name}: got ratio {ratio} and budget {budget}, expected one of them.",
    )
    if budget is not None:
        whole = isinstance(budget, int) and not isinstance(budget, bool)
        check(
            whole and budget >= 1,
            f"policy {name}: got budget {budget!r}, expected a whole number of at least 1 token.",
        )
        return min(budget, schedule.total)
    check(
        isinstance(ratio, (int, float)) and 0 < ratio < 1,
        f"policy {name}: got ratio {ratio!r}, expected a share of the {schedule.total} tokens "
        "to evict, above 0 and below 1.",
    )
    return round((1 - ratio) * schedule.total)


def _check_budget(policy, schedule):
    forced, total = policy.forced(schedule), schedule.total
    check(
        forced < total,
        f"policy {policy.name}: it always keeps {forced} tokens a head, and the scales have only "
        f"{total}; take another policy.",
    )
    check(
        policy.budget > forced,
        f"policy {policy.name}: a budget of {policy.budget} tokens a head (ratio "
        f"{1 - policy.budget / total:.3f} of {total}) holds nothing but the {forced} that it "
        f"always keeps; expected at least {forced + 1} (a ratio of at most "
        f"{1 - (forced + 1) / total:.3f}).",
    )
