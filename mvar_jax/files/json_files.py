"""Files of JSON: written whole, read with one kind of error."""

import json
from pathlib import Path
from typing import Any

from mvar_jax.files.whole import write_text


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, whole or not at all. Raises ValueError for NaN, which JSON has not."""
    try:
        text = json.dumps(value, indent=2, allow_nan=False)
    except ValueError:
        raise ValueError(
            f"{path}: got NaN or an infinite number to write, expected finite ones; check the "
            "weights and the images."
        ) from None
    write_text(path, text)


def load_json(path: Path) -> Any:
    """The value in a JSON file. Raises OSError, and ValueError as `parse_json` does."""
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:
    """The value of JSON text in UTF-8. Raises ValueError for whatever else the text is."""
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:  # brackets in brackets, as no file of ours has them
        raise ValueError("it is nested too deep") from None
