"""Scales by aspect ratio and budget of pixels, as those of Infinity (arXiv 2412.04431)."""

import re
from functools import cache

from mvar_jax.checks import check
from mvar_jax.scales import ScaleSchedule

STRIDE = 16  # pixels of a token's side at the last scale
BUDGETS = {"0.06M": 7, "0.25M": 10, "0.60M": 12, "1M": 13}
"""How many of the scales a budget of pixels has; 0.06M is 256 x 256, 1M 1024 x 1024."""

# By aspect ratio, height / width, the sizes of all scales, height x width in tokens.
SIZES = {
    "1": "1x1 2x2 4x4 6x6 8x8 12x12 16x16 20x20 24x24 32x32 40x40 48x48 64x64",
    "1.25": "1x1 2x2 3x3 5x4 10x8 15x12 20x16 25x20 30x24 35x28 45x36 55x44 70x56",
    "0.8": "1x1 2x2 3x3 4x5 8x10 12x15 16x20 20x25 24x30 28x35 36x45 44x55 56x70",
    "1.333": "1x1 2x2 4x3 8x6 12x9 16x12 20x15 24x18 28x21 36x27 48x36 60x45 72x54",
    "0.75": "1x1 2x2 3x4 6x8 9x12 12x16 15x20 18x24 21x28 27x36 36x48 45x60 54x72",
    "1.5": "1x1 2x2 3x2 6x4 9x6 15x10 21x14 27x18 33x22 39x26 48x32 63x42 78x52",
    "0.666": "1x1 2x2 2x3 4x6 6x9 10x15 14x21 18x27 22x33 26x39 32x48 42x63 52x78",
    "1.75": "1x1 2x2 3x3 7x4 11x6 14x8 21x12 28x16 35x20 42x24 56x32 70x40 84x48",
    "0.571": "1x1 2x2 3x3 4x7 6x11 8x14 12x21 16x28 20x35 24x42 32x56 40x70 48x84",
    "2": "1x1 2x2 4x2 6x3 10x5 16x8 22x11 30x15 38x19 46x23 60x30 74x37 90x45",
    "0.5": "1x1 2x2 2x4 3x6 5x10 8x16 11x22 15x30 19x38 23x46 30x60 37x74 45x90",
    "2.5": "1x1 2x2 5x2 10x4 15x6 20x8 25x10 30x12 40x16 50x20 65x26 80x32 100x40",
    "0.4": "1x1 2x2 2x5 4x10 6x15 8x20 10x25 12x30 16x40 20x50 26x65 32x80 40x100",
    "3": "1x1 2x2 6x2 9x3 15x5 21x7 27x9 36x12 45x15 54x18 72x24 90x30 111x37",
    "0.333": "1x1 2x2 2x6 3x9 5x15 7x21 9x27 12x36 15x45 18x54 24x72 30x90 37x111",
}
TOLERANCE = 0.1  # by which an asked ratio may differ from a published one
ASPECTS = tuple(SIZES)
"""The published aspect ratios, height / width, the square first."""


@cache
def infinity_schedule(aspect: str, pixels: str) -> ScaleSchedule:
    """The published scales of an aspect ratio and a pixel budget, such as "1.5" and "0.06M".

    Raises ValueError for others; `nearest_aspect` finds the nearest ratio.
    """
    check(aspect in SIZES, f"aspect: got {aspect!r}, expected one of {', '.join(ASPECTS)}.")
    check(pixels in BUDGETS, f"pixels: got {pixels!r}, expected one of {', '.join(BUDGETS)}.")
    sizes = [size.split("x") for size in SIZES[aspect].split()]
    return ScaleSchedule(tuple((int(h), int(w)) for h, w in sizes[: BUDGETS[pixels]]))


def nearest_aspect(height: float, width: float) -> str:
    """The published aspect ratio nearest to an image's, the first on a tie."""
    return min(ASPECTS, key=lambda aspect: abs(height / width - float(aspect)))


def parse_aspect(text: str) -> str:
    """The published aspect ratio that "width:height", such as "3:2", comes nearest to.

    Raises ValueError for another text, and for a ratio that is a tenth or more from all of them.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)", text.strip())
    width, height = map(float, found.groups()) if found else (0.0, 0.0)
    known = ", ".join(f"{1 / float(aspect):.3g}:1" for aspect in ASPECTS)
    if width > 0 and height > 0:
        nearest = nearest_aspect(height, width)
        if abs(height / width / float(nearest) - 1) < TOLERANCE:
            return nearest
    raise ValueError(
        f"aspect: got {text!r}, expected width:height such as 3:2, near one of {known}."
    )


def reshaped(square: ScaleSchedule, aspect: str | None, pixels: str | None) -> ScaleSchedule:
    """The scales of another aspect ratio or budget, for a model of `square` scales.

    A model of published scales takes published ones. Others take scales of about as many tokens as
    their own have, and have one budget only. Raises ValueError for what there is not.
    """
    known = ", ".join(BUDGETS)
    check(pixels in (None, *BUDGETS), f"pixels: got {pixels!r}, expected one of {known}.")
    budgets = [name for name in BUDGETS if infinity_schedule("1", name) == square]
    if budgets:
        return infinity_schedule(aspect or "1", pixels or budgets[0])
    check(
        pixels is None,
        f"pixels: got {pixels!r}, but the model's scales {square} are of no published budget; "
        "leave it out.",
    )
    check(aspect in (None, *ASPECTS), f"aspect: got {aspect!r}, expected one of {ASPECTS}.")
    taller = float(aspect or 1) ** 0.5
    return ScaleSchedule(
        tuple((max(1, round(h * taller)), max(1, round(w / taller))) for h, w in square.sizes)
    )


@cache
def position_grid(schedule: ScaleSchedule) -> tuple[int, int]:
    """The grid (height, width) on which rotary positions place the tokens of a schedule.

    Of a published schedule, or the first scales of one, it is the last scale of the ratio's
    largest budget, so that a model of one budget can go on with another. Otherwise it is the
    schedule's own last scale.
    """
    for aspect in ASPECTS:
        published = infinity_schedule(aspect, "1M")
        if published.sizes[: len(schedule)] == schedule.sizes:
            return published.last
    return schedule.last
