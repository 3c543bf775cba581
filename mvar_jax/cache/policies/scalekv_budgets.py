"""The budgets that ScaleKV was released with, by the scale that reads a cache and by layer."""

from collections.abc import Mapping
from dataclasses import dataclass

from mvar_jax.checks import check


@dataclass(frozen=True)
class Budgets:
    """Tokens per head that layers inherit, as tables of ScaleKV's public code state them.

    `rows` has the budget of every layer, by the number of the scale that reads them, counted from 1
    as there. Nothing is cut before a cache holds more than `base` tokens.
    """

    base: int
    rows: Mapping[int, tuple[int, ...]]

    def after(self, scale: int) -> tuple[int, ...]:
        """The budgets of all layers after a scale, counted from 0; the last row serves the rest.

        Raises ValueError for a scale before the first row.
        """
        reader = min(scale + 2, max(self.rows))
        check(
            reader in self.rows,
            f"policy scalekv: the budgets have no row for scale {reader}, whose history exceeds "
            f"{self.base} tokens; they are for scales like those of 1M pixels.",
        )
        return self.rows[reader]


def _released(layers: int, rows: Mapping[int, tuple[int, int, tuple[int, ...]]]) -> Budgets:
    """From the budgets of drafters and of refiners, and which layers are drafters."""
    wide = {
        reader: tuple(large if layer in drafters else small for layer in range(layers))
        for reader, (large, small, drafters) in rows.items()
    }
    return Budgets(650, wide)


# At 10% of the 6425 tokens before the last scale: every row's mean is 650, up to rounding.
PUBLISHED: dict[str, Budgets] = {
    "infinity-2b": _released(
        32,
        {
            9: (920, 632, (0, 23)),
            10: (1490, 594, (0, 23)),
            11: (2510, 526, (0, 23)),
            12: (4100, 420, (0, 23)),
            13: (6385, 465, (0,)),
        },
    ),
    "infinity-8b": _released(
        40,
        {
            9: (909, 629, (0, 1, 2)),
            10: (1464, 584, (0, 1, 2)),
            11: (2463, 503, (0, 1, 2)),
            12: (4054, 374, (0, 1, 2)),
            13: (6200, 200, (0, 1, 2)),
        },
    ),
}
"""By model; a table of one's own is a further entry."""
