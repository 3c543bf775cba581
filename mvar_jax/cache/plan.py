"""How many tokens every group of heads attends to and remembers: all shapes follow from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mvar_jax.scales import ScaleSchedule


class AttentionShape(NamedTuple):
    """The blocks that attend over the history, in order of depth, and the heads of each."""

    layers: int
    heads: int


@dataclass(frozen=True)
class GroupPlan:
    """Neighbouring heads of one layer that are treated alike; static under jit.

    `attend[k]` tokens are seen by the queries of scale k, and `keep[k]` are remembered after it,
    each counted per head; both are at most what is at hand then: what was kept before and the
    scale's own tokens. After the last scale nothing is kept. `kind` is a policy's word for the
    heads, such as "contextual".
    """

    heads: int
    attend: tuple[int, ...]
    keep: tuple[int, ...]
    kind: str = ""

    def lengths(self, scale: int) -> tuple[int, int]:
        """Tokens to attend to and to keep; after the last scale, which keeps none, both are equal.

        No second selection is then made.
        """
        return self.attend[scale], self.keep[scale] or self.attend[scale]


LayerPlan = tuple[GroupPlan, ...]


@dataclass(frozen=True)
class CachePlan:
    """The plans of all layers that attend over the history.

    `head_order[layer]` lists a layer's heads so that those of a group are neighbours; None leaves
    all where they are.
    """

    layers: tuple[LayerPlan, ...]
    head_order: tuple[tuple[int, ...], ...] | None = None

    @cached_property
    def kept(self) -> tuple[int, ...]:
        """Tokens that are kept after every scale, added up over layers and heads."""
        return self._total(lambda group: group.keep)

    @property
    def inherited(self) -> float:
        """Tokens that the last scale inherits, mean over layers and heads; 0 of a single scale."""
        heads = sum(group.heads for layer in self.layers for group in layer)
        return self.kept[-2] / heads if len(self.kept) > 1 else 0.0

    @cached_property
    def attended(self) -> tuple[int, ...]:
        """Tokens that a query sees at every scale, added up over layers and heads."""
        return self._total(lambda group: group.attend)

    def _total(self, lengths: Callable[[GroupPlan], tuple[int, ...]]) -> tuple[int, ...]:
        scaled = [
            [group.heads * length for length in lengths(group)]
            for layer in self.layers
            for group in layer
        ]
        return tuple(map(sum, zip(*scaled)))


def plan_group(
    schedule: ScaleSchedule,
    heads: int,
    keep: Sequence[int],
    attend: Sequence[int] | None = None,
    kind: str = "",
) -> GroupPlan:
    """A group that keeps up to `keep[k]` tokens after scale k and attends to up to `attend[k]`.

    Without `attend`, a scale sees all that was kept and all of itself.
    """
    seen, kept, held = [], [], 0
    for scale, length in enumerate(schedule.lengths):
        at_hand = held + length
        seen.append(at_hand if attend is None else min(at_hand, attend[scale]))
        held = min(at_hand, keep[scale]) if scale + 1 < len(schedule) else 0
        kept.append(held)
    return GroupPlan(heads, tuple(seen), tuple(kept), kind)


def plan_full(schedule: ScaleSchedule, shape: AttentionShape) -> CachePlan:
    """The plan that keeps everything."""
    whole = [schedule.total] * len(schedule)
    return CachePlan(((plan_group(schedule, shape.heads, whole),),) * shape.layers)


def spread_budget(
    shares: Sequence[int | float],
    weights: Sequence[int],
    mean: int | float,
    low: int,
    high: int,
) -> tuple[int, ...]:
    """Whole budgets in proportion to `shares`, within [low, high], of a given weighted mean.

    What a limit cuts off goes to the others. `weights` counts the heads behind each budget. The
    mean is met to within half a token a head, and exactly where the limits leave no choice.
    """
    wanted, heads = np.maximum(np.asarray(shares, np.float64), 1e-12), np.asarray(weights)
    target = np.clip(mean, low, high) * heads.sum()

    def filled(factor):
        return np.clip(factor * wanted, low, high)

    small, large = low / wanted.max(), high / wanted.min()
    for _ in range(100):
        factor = (small + large) / 2
        small, large = (factor, large) if filled(factor) @ heads < target else (small, factor)
    # Rounding carries what it lost on to the next budget, so that the total stays.
    budgets, owed = [], 0.0
    for exact, weight in zip(filled(large), heads):
        budget = int(np.clip(np.floor(exact + owed / weight + 0.5), low, high))
        owed += (exact - budget) * weight
        budgets.append(budget)
    return tuple(budgets)
