"""A log in a JSON-lines file: one object per line, each with at least its `step`."""

import json
import math
from pathlib import Path

from absl import logging

from mvar_jax.files import GrowingFile, parse_json, read_grown

Row = dict[str, int | float | None]


class MetricsLog:
    """Appends rows to a file and keeps them in `rows`; continues the log of an interrupted run.

    On opening, rows of steps after `step` are dropped, and so is an incomplete last line, since
    those steps are about to be repeated. Damaged lines before it are dropped with a warning. `rows`
    are all rows, old and new. Numbers are written in full precision, so that equal runs write equal
    files; NaN and inf become null, since JSON has no literals for them. With `writes` False the
    file is only read.
    """

    def __init__(self, path: Path, step: int, writes: bool = True):
        self.rows = _rows_until(path, step)
        self._file = GrowingFile(path, "".join(_line(row) for row in self.rows)) if writes else None

    def append(self, row: Row) -> None:
        """Writes a row to the file immediately."""
        row = {name: _json_number(value) for name, value in row.items()}
        self.rows.append(row)
        if self._file is not None:
            self._file.append(_line(row))

    def close(self) -> None:
        """Ends the log."""
        if self._file is not None:
            self._file.close()


def _json_number(value: int | float | None) -> int | float | None:
    return value if value is not None and math.isfinite(value) else None


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _rows_until(path: Path, step: int) -> list[Row]:
    """The rows of a log up to a step, without lines that are incomplete or damaged."""
    rows = []
    lines = read_grown(path).splitlines()
    for number, line in enumerate(lines, 1):
        row = _row(line)
        if row is None and number < len(lines):
            logging.warning("%s: line %d is damaged, the log goes on without it.", path, number)
        if row is not None and row["step"] <= step:
            rows.append(row)
    return rows


def _row(line: bytes) -> dict | None:
    """The row in a line, None where there is none."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None
