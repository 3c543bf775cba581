"""A bar of what is done of a long task, with its pace and the time left, on stderr."""

import sys

from tqdm import tqdm

PAUSES = 0.5, 30  # seconds between two looks, on a terminal and in a log


def progress_bar(label: str, total: int, unit: str, initial: int = 0) -> tqdm:
    """A bar from `initial` to `total`; close it, or use it in a `with` block."""
    pause = PAUSES[0] if sys.stderr.isatty() else PAUSES[1]
    return tqdm(
        desc=label, total=total, initial=initial, unit=unit, unit_scale=True, mininterval=pause
    )
