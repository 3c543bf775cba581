"""Encoded images as RGB pixels, whatever their format, mode and orientation."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError, features

from mvar_jax.checks import check, first_line

# Named, because Pillow would run another program over what says that it is PostScript.
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
FORMATS += ("AVIF",) if features.check("avif") else ()  # not every build of Pillow has it
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis")
MAX_PIXELS = 2**30 // 12  # 89 million, Pillow's own limit; a small file may claim far more
MAX_PROPORTION = 64  # of the sides; a strip would grow to billions of pixels to cover a square


def decode_image(encoded: bytes, most_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of one image, upright, without transparency.

    Turns as the EXIF orientation says, lays transparent images on white, scales 16 bits of grey
    to 8, and takes the first picture of an animation. Raises ValueError, of one line, for bytes
    that are no whole image in one of `FORMATS` of at most `most_pixels`, and for a strip of more
    than `MAX_PROPORTION` to 1.
    """
    heic = encoded[4:8] == b"ftyp" and encoded[8:12] in HEIC_BRANDS
    check(not heic, "a HEIC image, which cannot be read; convert it to JPEG")
    with _opened(io.BytesIO(encoded), most_pixels) as image:
        return _rgb(_upright(image))


def check_header(file: Path) -> None:
    """Raises ValueError as `decode_image` does, as far as the first bytes tell; decodes nothing."""
    with _opened(file):
        pass


@contextlib.contextmanager
def _opened(file: io.BytesIO | Path, most: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """An image before its pixels are read. Errors, those of the block too, are of one line."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            check(
                width * height <= most,
                f"{width} x {height} pixels, expected at most {most} in all",
            )
            check(
                max(width, height) <= MAX_PROPORTION * min(width, height),
                f"{width} x {height} pixels, expected sides of at most {MAX_PROPORTION} to 1",
            )
            yield image
    except UnidentifiedImageError:
        raise ValueError(f"no image in one of the formats {', '.join(FORMATS)}") from None
    except Exception as error:  # decoders raise whatever they stumble over
        raise ValueError(first_line(error)) from error


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # the pixels are good even where the remarks on them are not
        return image
    return image


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits, however they are stored
        grey = (np.clip(np.asarray(image), 0, 2**16 - 1) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    check(image.mode != "F", "pixels are floating-point numbers of unknown range")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))
