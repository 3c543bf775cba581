"""Cropping and shifting one image: uint8 arrays [height, width, channels] of numpy."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def cover(
    image: UInt8[np.ndarray, "h w channels"], size: tuple[int, int]
) -> UInt8[np.ndarray, "height width_px channels"]:
    """Resizes an image, keeping its proportions, to the smallest that covers `size`.

    `size` is (height, width) in pixels; one side comes out equal to it, the other is rounded
    down, as torchvision's `Resize` does with the short side. Lanczos filter (official VAR).
    """
    (height, width), (target_height, target_width) = image.shape[:2], size
    if height * target_width <= width * target_height:
        covering = (target_height, max(target_width, width * target_height // height))
    else:
        covering = (max(target_height, height * target_width // width), target_width)
    if covering == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize(covering[::-1], Image.Resampling.LANCZOS))


def random_crop(
    image: UInt8[np.ndarray, "h w channels"], size: tuple[int, int], generator: np.random.Generator
) -> UInt8[np.ndarray, "height width_px channels"]:
    """A crop of (height, width) `size` pixels at a uniformly random position."""
    spare_height, spare_width = image.shape[0] - size[0], image.shape[1] - size[1]
    top = generator.integers(spare_height + 1)
    left = generator.integers(spare_width + 1)
    return image[top : top + size[0], left : left + size[1]]


def center_crop(
    image: UInt8[np.ndarray, "h w channels"], size: tuple[int, int]
) -> UInt8[np.ndarray, "height width_px channels"]:
    """The middle part of (height, width) `size` pixels; halves round to even, as in torchvision."""
    top = round((image.shape[0] - size[0]) / 2)
    left = round((image.shape[1] - size[1]) / 2)
    return image[top : top + size[0], left : left + size[1]]


def random_shift(
    image: UInt8[np.ndarray, "h w channels"], max_shift: int, generator: np.random.Generator
) -> UInt8[np.ndarray, "h w channels"]:
    """The image moved by -max_shift to max_shift pixels along each side, the border repeated."""
    down, right = generator.integers(-max_shift, max_shift + 1, size=2)
    rows, columns = np.arange(image.shape[0]) - down, np.arange(image.shape[1]) - right
    return image.take(rows, axis=0, mode="clip").take(columns, axis=1, mode="clip")
