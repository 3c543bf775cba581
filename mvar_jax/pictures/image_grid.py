"""Images laid out in labelled rows."""

from collections.abc import Sequence

import numpy as np
from einops import rearrange
from PIL import Image, ImageDraw

from mvar_jax.array_types import Float, HostArray
from mvar_jax.checks import check
from mvar_jax.pictures.pixels import check_images, enlarge, to_uint8
from mvar_jax.pictures.text import FONT_SIZE, LINE_HEIGHT, font, wrap

GAP = 2
NARROWEST = 160  # pixels that labels may take beside however few images
PAPER = (255, 255, 255)
INK = (0, 0, 0)


def image_grid(
    images: HostArray,
    columns: int,
    row_labels: Sequence[str] = (),
    *,
    scale: int = 1,
) -> Image.Image:
    """A picture of images in rows of `columns`, each pixel drawn as `scale` x `scale`.

    Images, float [batch, height, width, 3], lie in [-1, 1], values beyond are clipped, and NaN is
    black: pictures of a training show what went wrong. A last row may be shorter. `row_labels`
    stand left of the rows, in a third of the images' width, but not less than `NARROWEST`, broken
    into lines, and cut where these do not fit into the row. Gaps are `GAP` pixels. Raises
    ValueError when there is no image, or not one label a row, and for arrays of another shape or of
    whole numbers.
    """
    check(len(images) > 0, "pictures: got no images, expected at least one.")
    check_images(images)
    check(
        columns >= 1 and scale >= 1,
        f"pictures: got {columns} columns and scale {scale}, expected at least 1.",
    )
    rows = -(-len(images) // columns)
    check(
        len(row_labels) in (0, rows),
        f"pictures: got {len(row_labels)} labels for {rows} rows, expected one a row or none.",
    )
    cells = enlarge(to_uint8(images, nan=-1.0), scale)
    height, width = cells.shape[1] + GAP, cells.shape[2] + GAP
    room, lines = max(NARROWEST, columns * width // 3), max(1, height // LINE_HEIGHT)
    labels = [wrap(label, room, lines) for label in row_labels]
    margin = _label_width(labels)
    picture = Image.new("RGB", (margin + columns * width + GAP, rows * height + GAP), PAPER)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        corner = (margin + GAP + column * width, GAP + row * height)
        picture.paste(Image.fromarray(cell), corner)
    for row, label in enumerate(labels):
        middle = (margin // 2, GAP + row * height + cells.shape[1] // 2)
        ImageDraw.Draw(picture).multiline_text(
            middle, label, INK, font(), "mm", spacing=LINE_HEIGHT - FONT_SIZE, align="center"
        )
    return picture


def reconstruction_grid(
    originals: Float[HostArray, "batch height width_px 3"],
    reconstructions: Float[HostArray, "batch height width_px 3"],
    columns: int = 10,
    *,
    scale: int = 1,
) -> Image.Image:
    """A picture of originals in [-1, 1] with their reconstructions in the row below.

    There are `columns` of them in a row, or as many as there are images. Raises ValueError as
    `image_grid` does.
    """
    columns = min(columns, max(len(originals), 1))
    pairs = np.stack([originals, reconstructions])
    missing = -pairs.shape[1] % columns
    padded = np.pad(pairs, ((0, 0), (0, missing), (0, 0), (0, 0), (0, 0)), constant_values=1)
    images = rearrange(padded, "pair (row column) h w c -> (row pair column) h w c", column=columns)
    labels = ("real", "decoded") * (padded.shape[1] // columns)
    return image_grid(images, columns, labels, scale=scale)


def growth_grid(
    images: Float[HostArray, "scales batch height width_px 3"],
    row_labels: Sequence[str] = (),
    scale: int = 1,
) -> Image.Image:
    """A picture of images in [-1, 1] as they grow: a row per image, a column per scale.

    Raises ValueError as `image_grid` does.
    """
    cells = rearrange(images, "scales batch h w c -> (batch scales) h w c")
    return image_grid(cells, len(images), row_labels, scale=scale)


def edit_grid(
    images: Float[HostArray, "batch height width_px 3"],
    masks: Float[HostArray, "batch height width_px"],
    *edited: Float[HostArray, "batch height width_px 3"],
    row_labels: Sequence[str] = (),
    scale: int = 1,
) -> Image.Image:
    """A picture of images in [-1, 1], the same with what is drawn anew in grey, and edits of them.

    Every row is one of them; masks are from 0 to 1. Raises ValueError as `image_grid` does.
    """
    hidden = images * (1 - np.asarray(masks)[..., None])
    columns = np.stack([images, hidden, *edited])
    cells = rearrange(columns, "columns batch h w c -> (batch columns) h w c")
    return image_grid(cells, len(columns), row_labels, scale=scale)


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures below each other, aligned at the left."""
    width, height = max(one.width for one in pictures), sum(one.height for one in pictures)
    whole, top = Image.new("RGB", (width, height), PAPER), 0
    for one in pictures:
        whole.paste(one, (0, top))
        top += one.height
    return whole


def _label_width(labels: Sequence[str]) -> int:
    widths = [font().getlength(line) for label in labels for line in label.split("\n")]
    return int(max(widths)) + 4 * GAP if widths else 0
