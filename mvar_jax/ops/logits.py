"""Filters of logits before sampling: top-k, then top-p. Both limits may be traced."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Bool, Float, Int, UInt


def filter_logits(
    logits: Float[Array, "*batch vocab"],
    top_k: Int[Array, ""] | int,
    top_p: Float[Array, ""] | float,
) -> Float[Array, "*batch vocab"]:
    """Sets to -inf the logits that top-k and then top-p remove; the largest always stays.

    Top-k keeps the `top_k` largest values and everything equal to the k-th; 0 keeps all. Top-p
    acts on the softmax of the remaining ones: in ascending order, values are removed while their
    sum is at most 1 - top_p; 0 or 1 keeps all. The limits are found by bisection on the bits of
    the floats: 32 passes, where sorting takes many more.
    """
    order = _sortable(logits)
    enough = _largest(lambda limit: jnp.sum(order >= limit, axis=-1, keepdims=True) >= top_k, order)
    logits = jnp.where((order >= enough) | (top_k == 0), logits, -jnp.inf)

    shares = jax.nn.softmax(logits, axis=-1)

    def removable(limit):
        below = jnp.sum(jnp.where(order < limit, shares, 0), axis=-1, keepdims=True)
        return below <= 1 - top_p

    limit = jnp.minimum(_largest(removable, order), order.max(axis=-1, keepdims=True))
    keep = (order >= limit) | (top_p == 0) | (top_p == 1)
    return jnp.where(keep, logits, -jnp.inf)


def _sortable(values: Float[Array, "*batch vocab"]) -> UInt[Array, "*batch vocab"]:
    """Unsigned integers in the order of the floats; both zeros are the same."""
    bits = jax.lax.bitcast_convert_type(values.astype(jnp.float32), jnp.uint32)
    sign = jnp.uint32(1 << 31)
    bits = jnp.where(bits == sign, 0, bits)
    return jnp.where(bits & sign, ~bits, bits | sign)


def _largest(
    holds: Callable[[UInt[Array, "*batch 1"]], Bool[Array, "*batch 1"]],
    order: UInt[Array, "*batch vocab"],
) -> UInt[Array, "*batch 1"]:
    """The largest integer for which `holds` is true; it must be true up to a limit, not above."""

    def try_bit(i, found):
        candidate = found | (jnp.uint32(1 << 31) >> i.astype(jnp.uint32))
        return jnp.where(holds(candidate), candidate, found)

    start = jnp.zeros((*order.shape[:-1], 1), jnp.uint32)
    return jax.lax.fori_loop(0, 32, try_bit, start)
