"""Two halves of a folder of images, and damaged copies of the second, to see a metric at work.

python docs/examples/damaged_sets.py photographs sets
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from mvar_jax.data.image_sets import open_images


def damaged(pixels: np.ndarray, kind: str, amount: int) -> np.ndarray:
    """An image as JPEG of that quality, blurred by so many pixels, or with noise added."""
    image = Image.fromarray(pixels)
    if kind == "jpeg":
        image.save(file := io.BytesIO(), "JPEG", quality=amount)
        return np.asarray(Image.open(file))
    if kind == "blur":
        return np.asarray(image.filter(ImageFilter.GaussianBlur(amount)))
    return np.random.default_rng(pixels.sum()).normal(pixels, amount).clip(0, 255).astype(np.uint8)


def main(folder: str, out: str) -> None:
    """Writes half_a.npz, half_b.npz, and half_b damaged, mildly and badly."""
    (images,) = open_images(Path(folder)).batches(10**9)
    first, second = np.array_split(np.random.default_rng(0).permutation(images), 2)
    np.savez(f"{out}/half_a.npz", first)
    np.savez(f"{out}/half_b.npz", second)
    for name in ("jpeg_50", "jpeg_10", "blur_1", "blur_3", "noise_5", "noise_25"):
        kind, amount = name.split("_")
        np.savez(f"{out}/{name}.npz", [damaged(pixels, kind, int(amount)) for pixels in second])


if __name__ == "__main__":
    main(*sys.argv[1:])
