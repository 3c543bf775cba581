"""A log of rows in a file of JSON lines, one object a line, each with at least its `step`."""

import json
import math
from pathlib import Path

from mvar_jax.files import naming_errors, write_text

Row = dict[str, int | float | None]


class MetricsLog:
    """Appends rows to a file and remembers them; continues a log that an earlier run began.

    On opening, what the file holds of steps after `step` is dropped, and so is a torn last
    line: those steps are about to be made again. `rows` are all rows, old and new. Numbers are
    written in full, so that equal runs leave equal files; NaN and inf become null, since JSON has
    no other word for them. With `writes` False the file is only read.
    """

    def __init__(self, path: Path, step: int, writes: bool = True):
        self.rows = _rows_until(path, step)
        self._path, self._writes = path, writes
        if writes:
            write_text(path, "".join(_line(row) for row in self.rows))

    def append(self, row: Row) -> None:
        """Adds a row to the file at once."""
        row = {name: _json_number(value) for name, value in row.items()}
        self.rows.append(row)
        if self._writes:
            with naming_errors(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(_line(row))


def _json_number(value: int | float | None) -> int | float | None:
    return value if value is not None and math.isfinite(value) else None


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _rows_until(path: Path, step: int) -> list[Row]:
    """The rows of a log up to a step, without lines that are not whole."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and row.get("step", step + 1) <= step:
            rows.append(row)
    return rows
