"""The results of a benchmark: a table that is printed row by row, and a file of the same rows."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvar_jax import cli
from mvar_jax.compilation.chips import GIB
from mvar_jax.evaluation.markdown import markdown_header, markdown_line
from mvar_jax.files import write_text

Row = Mapping[str, Any]


class Rows:
    """Rows of measurements; `columns` gives the title and the format of those to print.

    The format "memory" is of bytes.

    With a `file`, it holds all rows so far as a list in JSON, whole after every row.
    """

    def __init__(self, columns: Mapping[str, tuple[str, str]], file: Path | None):
        self._columns, self._file, self._rows = columns, file, list[Row]()

    def add(self, row: Row) -> None:
        """Prints a row, below the header if it is the first, and writes the file."""
        shown = {name: about for name, about in self._columns.items() if name in row}
        if not self._rows:
            cli.say(markdown_header([title for title, _ in shown.values()]))
        self._rows.append(row)
        cells = [self._cell(row[name], form) for name, (_, form) in shown.items()]
        cli.say(markdown_line(cells))
        if self._file is not None:
            write_text(self._file, json.dumps(self._rows, indent=1) + "\n")

    @staticmethod
    def _cell(value, form):
        if form == "memory":
            return f"{value / GIB:.2f} GiB"
        return "" if value is None else format(value, form)
