"""A cache policy of your own: keeps the tokens with the longest values.

    python docs/examples/cache_policy.py runs/shapes

The model must attend over the history, as a VAR does.
"""

import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp

import mvar_jax
from mvar_jax.cache import GroupPlan, KVCache, Policy, Probe


@dataclass(frozen=True)
class Loudest(Policy):
    """Keeps the `budget` tokens of largest value norm."""

    name = "loudest"

    def score(self, union: KVCache, probe: Probe, group: GroupPlan) -> jax.Array:
        """One number per token, [batch, heads, m]; the largest are kept."""
        return jnp.linalg.norm(union.value, axis=-1)


def main(workdir: str) -> None:
    """Samples with the full cache and with the policy, and counts equal tokens."""
    model = mvar_jax.load(workdir)
    small = model.compressed("loudest", ratio=0.5)
    print(small.cache_summary())
    full, cut = (each.sample([0, 1, 2], seed=0).tokens[-1] for each in (model, small))
    print(f"equal tokens at the last scale: {(full == cut).mean():.0%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
