"""Records that were skipped because they cannot be read: named once, counted, and limited."""

from absl import logging

from mvar_jax.checks import check

MAX_SHARE = 0.01
SMALL_SPLIT = 100  # images; a single bad one is more than `MAX_SHARE` of them


class SkippedRecords:
    """The records of one split that could not be read, and why.

    `what` names the split in messages, `total` is the number of its records. The counts are those
    of one process: every worker process warns of what it skips itself.
    """

    def __init__(self, what: str, total: int):
        self._what, self._total = what, total
        self._causes: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._causes)

    def __contains__(self, index: int) -> bool:
        return index in self._causes

    @property
    def causes(self) -> dict[int, str]:
        """Which records were skipped, and why."""
        return dict(self._causes)

    def add(self, index: int, name: str, cause: str) -> None:
        """Warns of a record, the first time.

        Raises ValueError when more than `MAX_SHARE` of a split that is not small are skipped.
        """
        if self._causes.setdefault(index, cause) is not cause:  # another thread was first
            return
        logging.warning(
            "data: skipped %s of %s (%s), %d of %d so far.",
            *(name, self._what, cause, len(self), self._total),
        )
        check(
            self._total <= SMALL_SPLIT or len(self) <= MAX_SHARE * self._total,
            f"data: {len(self)} of {self._total} images of {self._what} cannot be read, the last "
            f"one {name} ({cause}), expected at most {MAX_SHARE:.0%}; replace the damaged files.",
        )

    def report(self) -> None:
        """Says how many were skipped, if any."""
        if self._causes:
            logging.warning(
                "data: %d of %d images of %s were skipped, because they cannot be read.",
                *(len(self), self._total, self._what),
            )
