"""Images that are drawn for files: a picture of all, a picture of each, or an archive of arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from einops import rearrange

from mvar_jax.checks import check
from mvar_jax.files import written_whole
from mvar_jax.pictures.image_files import KINDS, check_fits, save_images, save_picture
from mvar_jax.pictures.image_grid import growth_grid, image_grid
from mvar_jax.pictures.pixels import to_uint8
from mvar_jax.sampling.model import Model
from mvar_jax.text.features import TextFeatures

SEEN = 64  # pixels that an image of a picture is enlarged to
MOST_PIXELS = 2**31  # of a picture: memory holds them several times
LONGEST_NAME = 60  # characters of a class or prompt in the name of a file


class Rows(NamedTuple):
    """What is drawn: a condition per row, and its name, of a class or the prompt itself."""

    conditions: list[int] | TextFeatures
    names: tuple[str, ...]

    def pick(self, rows: Sequence[int]) -> "Rows":
        """Some of them, in this order."""
        names = tuple(self.names[row] for row in rows)
        if isinstance(self.conditions, TextFeatures):
            return Rows(self.conditions.rows(np.array(rows, int)), names)
        return Rows([self.conditions[row] for row in rows], names)


@dataclass(frozen=True)
class Drawing:
    """What to draw of a model: a condition and a number per image, their seed, other arguments.

    Those are of `Model.sample`, by name. Its methods draw and write; they raise ValueError as
    `Model.sample` and `save_picture` do, OSError when a file cannot be written.
    """

    model: Model
    images: Rows  # one per image
    seed: int
    numbers: list[int]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def save(
        self, out: Path, *, columns: int, scale: int | None = None, grow: bool = False
    ) -> None:
        """Writes a picture, a .npz, or into a folder, whichever `out` names.

        A picture's pixels are enlarged so that small images can be seen, unless `scale` is given.
        """
        if out.suffix.lower() == ".npz" and not out.is_dir():
            self.save_arrays(out)
        elif out.suffix.lower() in KINDS and not out.is_dir():
            scale = scale or max(1, SEEN // self.model.image_size[1])
            self.save_grid(out, columns=columns, scale=scale, grow=grow)
        else:
            self.save_each(out, scale=scale or 1, grow=grow)

    def save_grid(self, path: Path, *, columns: int, scale: int, grow: bool = False) -> None:
        """Writes one picture, each pixel drawn as `scale` x `scale`.

        It has rows of `columns` images, named by the class of their first; with `grow` a row per
        image and a column per scale. What a file cannot hold, or memory, is refused before anything
        is drawn.
        """
        names = self.images.names
        height, width = self.model.image_size
        across = len(self.model.sampler.scales) if grow else columns
        rows = len(names) if grow else len(names) // columns
        _check_size(path, (across * width * scale, rows * height * scale))
        if grow:
            picture = growth_grid(self._grown(), names, scale)
        else:
            images = self.model.sample(**self._arguments()).images
            picture = image_grid(images, columns, names[::columns], scale=scale)
        save_picture(picture, path)

    def save_each(self, folder: Path, *, scale: int = 1, grow: bool = False) -> None:
        """Writes a file per image, `seed0_00012_tench.png`: its seed, number and class or prompt.

        With `grow` it shows the image after every scale, from left to right.
        """
        height, width = self.model.image_size
        across = len(self.model.sampler.scales) if grow else 1
        _check_size(folder / "0.png", (across * width * scale, height * scale))
        if grow:
            images = rearrange(self._grown(), "scales batch h w c -> batch h (scales w) c")
        else:
            images = self.model.sample(**self._arguments()).images
        names = [
            f"seed{self.seed}_{number:05d}_{name.split(',')[0][:LONGEST_NAME]}"
            for number, name in zip(self.numbers, self.images.names)
        ]
        save_images(images, folder, names, scale=scale)

    def save_arrays(self, path: Path) -> None:
        """Writes a .npz for `np.load`, whole or not at all; equal samples give equal bytes.

        It holds `images` uint8 [batch, height, width, 3], `tokens` [batch, total], those of one
        scale behind those of another, `lengths` int32 [scales], the scales in tokens, `labels`
        int32 [batch], `numbers` uint32 [batch], `seed` uint32, and `class_names` by label. Of texts
        there are `prompts` in place of labels and names, and tokens have an axis more, of bits.
        """
        samples = self.model.sample(**self._arguments())
        arrays: dict[str, Any] = {
            "images": to_uint8(samples.images),
            "tokens": np.concatenate(samples.tokens, axis=1),
            "lengths": np.array([tokens.shape[1] for tokens in samples.tokens], np.int32),
            "numbers": np.array(self.numbers, np.uint32),
            "seed": np.uint32(self.seed),
        }
        if isinstance(self.images.conditions, TextFeatures):
            arrays["prompts"] = np.array(self.images.names, np.str_)
        else:
            arrays["labels"] = np.array(self.images.conditions, np.int32)
            arrays["class_names"] = np.array(self.model.class_names, np.str_)
        with written_whole(path, shared=True) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def _grown(self) -> np.ndarray:
        return self.model.grow(**self._arguments())

    def _arguments(self) -> dict[str, Any]:
        own = {"labels": self.images.conditions, "seed": self.seed, "numbers": self.numbers}
        return own | dict(self.settings)


def _check_size(path: Path, size: tuple[int, int]) -> None:
    """Raises ValueError for a picture of (width, height) that is too large for a file or memory."""
    check_fits(path, size)
    check(
        size[0] * size[1] <= MOST_PIXELS,
        f"a picture of {size[0]} x {size[1]} pixels is too large, expected at most {MOST_PIXELS} "
        "pixels; draw fewer images in one, or each pixel smaller (--scale).",
    )
