"""A picture of any size that a model edits at its own size, and the mask of what is drawn anew."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from mvar_jax.checks import check
from mvar_jax.data.decode import decode_image
from mvar_jax.pictures.pixels import to_uint8
from mvar_jax.sampling.editing import paste_back

MOST_BYTES = 2**28  # of one file


@dataclass(frozen=True)
class Canvas:
    """The pixels of a picture, and how much of each is drawn anew, from 0, kept, to 1."""

    pixels: UInt8[np.ndarray, "height width_px 3"]
    mask: Float32[np.ndarray, "height width_px"]
    said: str = ""  # what was done to the mask, a sentence

    @classmethod
    def read(cls, image: Path, mask: Path | None = None) -> "Canvas":
        """From two files; white of the mask, or all without one, is drawn anew.

        A mask of another size is resized to that of the image, which `said` says. Raises OSError,
        and ValueError for what is no image.
        """
        white = None if mask is None else _read(mask)
        return cls.of(_read(image), white, names=(str(image), str(mask)))

    @classmethod
    def of(
        cls,
        pixels: UInt8[np.ndarray, "height width_px 3"],
        mask: UInt8[np.ndarray, "h w 3"] | None = None,
        *,
        names: tuple[str, str] = ("the image", "The mask"),
    ) -> "Canvas":
        """From the pixels of a picture and of a mask, as `read` takes them; `names` are for it."""
        height, width = pixels.shape[:2]
        if mask is None:
            return cls(pixels, np.ones((height, width), np.float32))
        white = mask.mean(axis=-1, dtype=np.float32) / 255
        if white.shape == (height, width):
            return cls(pixels, white)
        said = (
            f"{names[1]}: {white.shape[1]} x {white.shape[0]} pixels, resized to the {width} x "
            f"{height} of {names[0]}."
        )
        return cls(pixels, _resized_mask(white, (height, width)), said)

    def fitted(
        self, size: tuple[int, int]
    ) -> tuple[Float32[np.ndarray, "1 h w 3"], Float32[np.ndarray, "1 h w"]]:
        """Image in [-1, 1] and mask, resized to (height, width): a batch of one, as models take."""
        image = _resized(self.pixels, size).astype(np.float32) / 127.5 - 1
        return image[None], _resized_mask(self.mask, size)[None]

    def describe_fit(self, size: tuple[int, int]) -> str:
        """A sentence on how the picture differs from the (height, width) of a model, if it does."""
        (height, width), (own_height, own_width) = size, self.mask.shape
        if (own_height, own_width) == (height, width):
            return ""
        kept = own_height * width == own_width * height
        return (
            f"The image has {own_width} x {own_height} pixels: it is edited at {width} x {height}"
            f"{'' if kept else ', its proportions changed,'} and what is drawn is resized to it."
        )

    def finished(
        self, drawn: Float32[np.ndarray, "h w 3"], *, paste: bool, feather: int | float
    ) -> Image.Image:
        """What was drawn of `fitted`, in [-1, 1], at the picture's own size.

        With `paste` the picture's own pixels stand outside of the mask, exactly; what was drawn
        fades in over `feather` pixels of the model's size (`sampling.editing.paste_back`).
        """
        pixels = _resized(to_uint8(drawn), self.mask.shape)
        if paste:
            own, new = self.pixels.astype(np.float32), pixels.astype(np.float32)
            enlarged = feather * len(self.pixels) / len(drawn)
            mixed = paste_back(own[None], new[None], self.mask[None], enlarged)[0]
            pixels = np.round(mixed).astype(np.uint8)
        return Image.fromarray(pixels)


def _read(file: Path) -> np.ndarray:
    size = file.stat().st_size
    check(file.is_file(), f"{file}: is no file, expected an image; name another.")
    check(
        0 < size <= MOST_BYTES,
        f"{file}: has {size} bytes, expected an image of 1 to {MOST_BYTES}; name another.",
    )
    try:
        return decode_image(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: cannot be read ({error}); give a PNG, JPEG or WebP.") from None


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.LANCZOS))


def _resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask averaged over pixels; black that touches no white stays black."""
    if mask.shape == size:
        return mask
    return np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.BOX))
