"""Text in pictures: its font, and labels that are cut to a width."""

import importlib
import math
from bisect import bisect_right
from functools import cache
from pathlib import Path

from PIL import ImageFont

FONT_SIZE = 16
LINE_HEIGHT = 20
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


def wrap(text: str, width: int, lines: int) -> str:
    """The text in up to so many lines of `width` pixels, broken between words; the last is cut."""
    done: list[str] = []
    words = text.split(" ")
    while len(done) + 1 < lines and _width(" ".join(words)) > width:
        fitting = bisect_right(
            range(1, len(words) + 1), width, key=lambda n: _width(" ".join(words[:n]))
        )
        if fitting == 0:
            break  # not even a word fits
        done.append(" ".join(words[:fitting]))
        words = words[fitting:]
    return "\n".join([*done, shorten(" ".join(words), width)])


def _width(text: str) -> int:
    return math.ceil(font().getlength(text))
