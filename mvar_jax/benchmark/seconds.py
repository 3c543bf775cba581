"""Seconds of a run and of a part of it, ours and those of another implementation."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mvar_jax.evaluation.programs import alternate


class Seconds(NamedTuple):
    """One run: seconds of the whole, and of a part of it that is measured apart."""

    whole: float
    part: float

    @property
    def rest(self) -> float:
        """What the rest of the run takes."""
        return self.whole - self.part


Run = Callable[[], tuple[float, float]]
"""Runs once; seconds of the whole and of the part."""


def alternating(ours: Run, official: Run | None, repeats: int) -> dict[str, list[Seconds]]:
    """`repeats` runs of "ours", and where it is given of "official", in turn."""
    runs = {"ours": ours} | ({} if official is None else {"official": official})
    return {
        name: [Seconds(*run) for run in found] for name, found in alternate(runs, repeats).items()
    }


def timing_columns(
    runs: Mapping[str, Sequence[Seconds]], *, part: str, rest: str
) -> dict[str, Any]:
    """Medians as columns of a row: `seconds_{part}` and `seconds_{rest}` of ours.

    `ratio_to_reference`, `ratio_{part}` and `ratio_{rest}` are the official code's seconds over
    ours, None without runs of it, and `reference_seconds...` its seconds.
    """
    own = _medians(runs["ours"])
    columns = {f"seconds_{part}": own.part, f"seconds_{rest}": own.rest, "ratio_to_reference": None}
    if "official" not in runs:
        return columns
    other = _medians(runs["official"])
    return columns | {
        "ratio_to_reference": other.whole / own.whole,
        f"ratio_{part}": other.part / own.part,
        f"ratio_{rest}": other.rest / own.rest,
        "reference_seconds": other.whole,
        f"reference_seconds_{part}": other.part,
        f"reference_seconds_{rest}": other.rest,
    }


def spread_columns(seconds: Sequence[float]) -> dict[str, Any]:
    """The median of runs and their spread as columns of a row."""
    return {
        "seconds": statistics.median(seconds),
        "seconds_spread": [min(seconds), max(seconds)],
    }


def _medians(runs: Sequence[Seconds]) -> Seconds:
    return Seconds(*(statistics.median(column) for column in zip(*runs)))
