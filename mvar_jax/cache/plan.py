"""How many tokens every group of heads attends to and keeps; all array shapes follow from it."""

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
    """Neighbouring heads of one layer with the same lengths; static under jit.

    The queries of scale k attend to `attend[k]` tokens, and `keep[k]` tokens are kept after it,
    both per head; both are at most the number kept before plus the scale's own tokens. After the
    last scale nothing is kept. `kind` is the policy's name for these heads, such as "contextual".
    """

    heads: int
    attend: tuple[int, ...]
    keep: tuple[int, ...]
    kind: str = ""

    def lengths(self, scale: int) -> tuple[int, int]:
        """Tokens to attend to and to keep at a scale.

        The last scale keeps none; both are then equal, so that no second selection is made.
        """
        return self.attend[scale], self.keep[scale] or self.attend[scale]


LayerPlan = tuple[GroupPlan, ...]


@dataclass(frozen=True)
class CachePlan:
    """The plans of all layers that attend over the history.

    `head_order[layer]` lists a layer's heads so that those of a group are neighbours; None keeps
    the model's order.
    """

    layers: tuple[LayerPlan, ...]
    head_order: tuple[tuple[int, ...], ...] | None = None

    @cached_property
    def kept(self) -> tuple[int, ...]:
        """Tokens that are kept after every scale, summed over layers and heads."""
        return self._total(lambda group: group.keep)

    @property
    def inherited(self) -> float:
        """Tokens that the last scale inherits, mean over layers and heads; 0 for a single scale."""
        heads = sum(group.heads for layer in self.layers for group in layer)
        return self.kept[-2] / heads if len(self.kept) > 1 else 0.0

    @cached_property
    def attended(self) -> tuple[int, ...]:
        """Tokens that a query attends to at every scale, summed over layers and heads."""
        return self._total(lambda group: group.attend)

    def alike(self) -> "CachePlan":
        """The plan with layers that are all alike, of the mean sizes of these.

        A trunk compiles such layers as one loop, so that memory and cost of a program are estimated
        in minutes. The first groups of a kind are averaged, the second ones, and so on.
        """
        groups: dict[tuple[str, int], list[GroupPlan]] = {}
        for layer in self.layers:
            for place, group in enumerate(layer):
                before = sum(other.kind == group.kind for other in layer[:place])
                groups.setdefault((group.kind, before), []).append(group)
        # Heads are rounded so that they add up to the total.
        ends = np.cumsum([sum(g.heads for g in same) for same in groups.values()])
        ends = np.round(ends / len(self.layers)).astype(int)
        layer = tuple(
            _mean_group(same, int(heads))
            for same, heads in zip(groups.values(), np.diff(ends, prepend=0))
            if heads
        )
        return CachePlan((layer,) * len(self.layers), self.head_order)

    def _total(self, lengths: Callable[[GroupPlan], tuple[int, ...]]) -> tuple[int, ...]:
        scaled = [
            [group.heads * length for length in lengths(group)]
            for layer in self.layers
            for group in layer
        ]
        return tuple(map(sum, zip(*scaled)))


def _mean_group(groups: list[GroupPlan], heads: int) -> GroupPlan:
    """A group of so many heads with the mean lengths of groups of one kind."""
    weights = [group.heads for group in groups]
    attend, keep = (
        # Halves are rounded up, so that nothing attends to more than there is.
        tuple(map(int, np.floor(np.average(lengths, axis=0, weights=weights) + 0.5)))
        for lengths in ([group.attend for group in groups], [group.keep for group in groups])
    )
    return GroupPlan(heads, attend, keep, groups[0].kind)


def plan_group(
    schedule: ScaleSchedule,
    heads: int,
    keep: Sequence[int],
    attend: Sequence[int] | None = None,
    kind: str = "",
) -> GroupPlan:
    """A group that keeps up to `keep[k]` tokens after scale k and attends to up to `attend[k]`.

    Without `attend`, a scale attends to everything that was kept and to all of itself.
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
    """Integer budgets in proportion to `shares`, clipped to [low, high], with a weighted mean.

    shares: relative sizes, one per budget.
    weights: number of heads with each budget.
    mean: of the budgets, weighted by heads; met to within half a token per head, and exactly if the
        limits determine all budgets. What a limit cuts off is spread over the others.
    """
    wanted, heads = np.maximum(np.asarray(shares, np.float64), 1e-12), np.asarray(weights)
    target = np.clip(mean, low, high) * heads.sum()

    def filled(factor):
        return np.clip(factor * wanted, low, high)

    small, large = low / wanted.max(), high / wanted.min()
    for _ in range(100):
        factor = (small + large) / 2
        small, large = (factor, large) if filled(factor) @ heads < target else (small, factor)
    # The rounding error is carried to the next budget, so that the total stays.
    budgets, owed = [], 0.0
    for exact, weight in zip(filled(large), heads):
        budget = int(np.clip(np.floor(exact + owed / weight + 0.5), low, high))
        owed += (exact - budget) * weight
        budgets.append(budget)
    return tuple(budgets)
