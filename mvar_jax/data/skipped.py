"""Records that were skipped because they cannot be read: named once, counted, and limited."""

from collections.abc import Mapping

from absl import logging

MAX_SHARE = 0.01
ALWAYS_ALLOWED = 10  # images, also of a split of which they are more than `MAX_SHARE`
MOST_NAMED = 20  # in one sentence


class SkippedRecords:
    """The records of one split that could not be read, and why.

    `what` names the split in messages, `total` is the number of its records. The counts are those
    of one process: every worker process warns of what it skips itself.
    """

    def __init__(self, what: str, total: int):
        self._what, self._total = what, total
        self._allowed = max(ALWAYS_ALLOWED, int(MAX_SHARE * total))
        self._names: dict[int, str] = {}
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

        Raises ValueError, which names them, when the skipped ones are more than `ALWAYS_ALLOWED`
        and than `MAX_SHARE` of the split.
        """
        self._names[index] = name
        if self._causes.setdefault(index, cause) is not cause:  # another thread was first
            return
        logging.warning(
            "data: skipped %s of %s (%s), %d of %d so far.",
            *(name, self._what, cause, len(self), self._total),
        )
        self._check()

    def add_known(self, found: Mapping[int, tuple[str, str]], *, warn: bool = True) -> None:
        """Adds records by their names and causes, and warns of all in one sentence.

        Raises ValueError as `add` does.
        """
        for index, (name, cause) in found.items():
            self._names[index], self._causes[index] = name, cause
        self._check()
        if found and warn:
            logging.warning("data: skipped %s: %s.", self._counted(), self._listed())

    def report(self) -> None:
        """Says how many were skipped, if any and not so many that an error has said it."""
        if 0 < len(self) <= self._allowed:
            logging.warning("data: %s were skipped, because they cannot be read.", self._counted())

    def _check(self) -> None:
        if len(self) > self._allowed:
            raise ValueError(
                f"data: {self._counted()} cannot be read, expected at most {self._allowed}; "
                f"replace or remove the damaged files: {self._listed()}."
            )

    def _counted(self) -> str:
        return f"{len(self)} of {self._total} images of {self._what}"

    def _listed(self) -> str:
        """The names, those of one cause together, of very many the first ones."""
        found = sorted((self._names[index], cause) for index, cause in self.causes.items())
        by_cause: dict[str, list[str]] = {}
        for name, cause in found[:MOST_NAMED]:
            by_cause.setdefault(cause, []).append(name)
        named = [f"{', '.join(names)} ({cause})" for cause, names in by_cause.items()]
        more = len(found) - MOST_NAMED
        return ", ".join([*named, f"and {more} more"] if more > 0 else named)
