"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def markdown_line(cells: Iterable[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def markdown_header(names: Sequence[str]) -> str:
    """The first two lines of a Markdown table."""
    return f"{markdown_line(names)}\n|{'---|' * len(names)}"


def markdown_table(names: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """A whole Markdown table, without a newline at its end."""
    return "\n".join([markdown_header(names), *map(markdown_line, rows)])
