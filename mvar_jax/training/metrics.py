"""The log of a run: `metrics.jsonl`, one JSON object a line, with at least `step` and `loss`."""

import json
from pathlib import Path

Row = dict[str, int | float]


class MetricsLog:
    """Appends rows to a file and remembers them; continues a log that an earlier run began.

    On opening, what the file holds of steps after `step` is dropped, and so is a torn last
    line: those steps are about to be made again. `rows` are all rows, old and new. Numbers are
    written in full, so that equal runs leave equal files.
    """

    def __init__(self, path: Path, step: int):
        self.rows = _rows_until(path, step)
        self._path = path
        text = "".join(_line(row) for row in self.rows)
        unfinished = path.with_name(f"{path.name}.unfinished")
        unfinished.write_text(text)
        unfinished.replace(path)

    def append(self, row: Row) -> None:
        """Adds a row to the file at once."""
        self.rows.append(row)
        with self._path.open("a") as file:
            file.write(_line(row))


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def _rows_until(path: Path, step: int) -> list[Row]:
    """The rows of a log up to a step, without lines that are not whole."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and row.get("step", step + 1) <= step:
            rows.append(row)
    return rows
