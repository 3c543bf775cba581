"""Keeps the tokens that received the most attention so far, and the most recent ones."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Int
from mvar_jax.cache.kv_cache import KVCache
from mvar_jax.cache.plan import GroupPlan
from mvar_jax.cache.policies.base import Policy, Probe, attention_shares, best
from mvar_jax.ops.parts import parts_of

QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class H2O(Policy):
    """Heavy-hitter oracle (Zhang et al., arXiv 2306.14048).

    Half of the budget goes to the most recent tokens, half to those with the largest attention,
    summed over all queries of all scales. The sum needs all attention weights, which are computed
    in pieces, hence slow.
    """

    name = "h2o"
    scored = True

    def score(
        self, union: KVCache, probe: Probe, group: GroupPlan
    ) -> Float[Array, "batch heads m"]:
        """Attention received so far, including that of this scale's queries."""
        return union.score + _received(probe, union.key)

    def choose(
        self, score: Float[Array, "batch heads m"], count: int, probe: Probe
    ) -> Int[Array, "batch heads kept"]:
        """Recent tokens first, then the heavy hitters."""
        recent = jnp.arange(score.shape[-1]) >= score.shape[-1] - count // 2
        return best(jnp.where(recent, jnp.inf, score), count)


def _received(probe: Probe, key: Float[Array, "batch heads m dim"]):
    """Attention weights summed over the queries, some at a time: [batch, heads, m]."""
    pieces = parts_of(probe.tokens, QUERIES_AT_ONCE)
    padding = (0, pieces * QUERIES_AT_ONCE - probe.tokens) if pieces > 1 else (0, 0)
    query = jnp.pad(probe.query, ((0, 0), (0, 0), padding, (0, 0)))
    valid = jnp.arange(query.shape[2]) < probe.tokens

    def add(total, piece):
        query, valid = piece
        shares = attention_shares(query, key, probe.softmax_scale)
        return total + jnp.sum(jnp.where(valid[:, None], shares, 0), axis=2), None

    split = query.reshape(*query.shape[:2], pieces, -1, query.shape[3])
    start = jnp.zeros(key.shape[:3], jnp.float32)
    return jax.lax.scan(add, start, (jnp.moveaxis(split, 2, 0), valid.reshape(pieces, -1)))[0]
