"""Text in pictures: its font, and labels that are cut to a width."""

import importlib
import math
from bisect import bisect_right
from functools import cache
from pathlib import Path

from PIL import ImageFont

FONT_SIZE = 16
ELLIPSIS = "…"


@cache
def font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it, so that pictures do not depend on a machine's fonts.

    It has Latin, Greek, Cyrillic and more, but neither Chinese nor Japanese nor Korean.
    """
    # Imported here by its name: only labels need matplotlib, which takes long to import.
    data = importlib.import_module("matplotlib").get_data_path()
    return ImageFont.truetype(Path(data) / "fonts" / "ttf" / "DejaVuSans.ttf", FONT_SIZE)


def shorten(text: str, width: int) -> str:
    """The text, or as much of it as fits into `width` pixels with an ellipsis behind it."""
    if _width(text) <= width:
        return text
    fitting = bisect_right(range(len(text)), width, key=lambda n: _width(text[:n] + ELLIPSIS))
    return text[: max(fitting - 1, 0)].rstrip(" ,") + ELLIPSIS


def _width(text: str) -> int:
    return math.ceil(font().getlength(text))
