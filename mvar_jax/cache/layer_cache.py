"""The cache of one attention layer under a policy, which selects what is attended to and kept."""

from dataclasses import replace
from functools import partial

import flax.struct
import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Leaf
from mvar_jax.cache.kv_cache import KVCache
from mvar_jax.cache.plan import LayerPlan
from mvar_jax.cache.policies.base import Policy, Probe
from mvar_jax.ops.attention import attention
from mvar_jax.scales import ScaleSchedule


@flax.struct.dataclass
class LayerCache:
    """One `KVCache` per group of heads; plan, policy and schedule are static under jit.

    `table` is the layer's part of the policy's calibrated table, float32 [heads, ...], or None.
    """

    groups: tuple[KVCache, ...]
    table: Leaf = None
    plan: LayerPlan = flax.struct.field(pytree_node=False, default=())
    policy: Policy = flax.struct.field(pytree_node=False, default=None)
    schedule: ScaleSchedule = flax.struct.field(pytree_node=False, default=None)

    def attend(
        self,
        query: Float[Array, "batch heads n dim"],
        key: Float[Array, "batch heads n dim"],
        value: Float[Array, "batch heads n dim"],
        raw_query: Float[Array, "batch heads n dim"],
        softmax_scale: float,
        scale: int,
        implementation: str = "auto",
    ) -> tuple[Float[Array, "batch heads n dim"], "LayerCache"]:
        """Attention of one scale's queries, and the cache that the next scale inherits.

        query, key, value: of the scale's tokens, as attention uses them.
        raw_query: the projection before bias, normalisation and rotation, by which some published
            code scores tokens.
        softmax_scale: factor of the logits.
        scale: index of the scale, static.
        implementation: of `ops.attention`.

        After the last scale the groups are empty, since nothing would read them.
        """
        attend = partial(attention, softmax_scale=softmax_scale, implementation=implementation)
        outputs, groups, first = [], [], 0
        for plan, held in zip(self.plan, self.groups):
            own = slice(first, first + plan.heads)
            first += plan.heads
            probe = Probe(
                schedule=self.schedule,
                scale=scale,
                query=query[:, own],
                raw_query=raw_query[:, own],
                softmax_scale=softmax_scale,
                table=None if self.table is None else self.table[own],
            )
            new = key[:, own], value[:, own]
            seen, cache = _seen_and_kept(self.policy, plan, held, probe, *new)
            outputs.append(attend(probe.query, *seen))
            groups.append(cache)
        return jnp.concatenate(outputs, axis=1), replace(self, groups=tuple(groups))


def _seen_and_kept(policy, plan, cache, probe, key, value):
    """Keys and values that one group of heads attends to, and the cache that it keeps."""
    scale = probe.scale
    union = cache.append(key, value, probe.schedule.offsets[scale])
    # The scale's own tokens are used unquantized; only what is kept is stored.
    old_key, old_value = cache.read(key.dtype)
    keys = jnp.concatenate([old_key, key.astype(old_key.dtype)], axis=2)
    values = jnp.concatenate([old_value, value.astype(old_value.dtype)], axis=2)
    selection = policy.select(replace(union, key=keys, value=values), probe, plan)
    if selection.attend is not None:
        keys, values = policy.gather(keys, values, selection.attend, probe, plan)
    if selection.score is not None:
        union = replace(union, score=selection.score)
    if plan.keep[scale] == 0:
        return (keys, values), jax.tree.map(lambda array: array[:, :, :0], union)
    return (keys, values), union if selection.keep is None else union.take(selection.keep)
