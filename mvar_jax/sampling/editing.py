"""Editing: what of an image is kept while the rest is drawn anew.

A mask says how much of a pixel is drawn anew, from 0, kept, to 1. Every scale keeps the image's own
tokens where its cells are black enough, and the sum of codes stays the image's own where the last
scale keeps them: the blend is one of features, not of pixels. Unlike tokens alone, which would
correct a coarse sum that is no longer there, this leaves nothing of a coarse token that is
drawn anew in what is kept.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Float, HostArray, in_32_bits
from mvar_jax.checks import check, check_range
from mvar_jax.ops.resize import resize_area
from mvar_jax.sampling.batches import in_batches
from mvar_jax.sampling.request import Forced, Sampler, Weights

STRENGTH = 0.75  # the coarsest scales hold colour and light, which what is drawn should share
THRESHOLD = 0.05  # nearly any white: coarse tokens that stay also keep what the image shows


def source_of(
    sampler: Sampler,
    weights: Weights,
    images: Float[HostArray, "batch height width_px 3"],
    batch_size: int,
) -> tuple[Forced, ...]:
    """The tokens of images in [-1, 1] at every scale, as a request is given them, none kept yet."""

    def of_rows(rows):
        return _tokens(sampler, weights, np.asarray(images, np.float32)[rows])

    tokens = in_batches(of_rows, len(images), batch_size)
    return tuple(Forced(own, np.zeros(own.shape[:2], np.float32)) for own in tokens)


@in_32_bits
@partial(jax.jit, static_argnames="sampler")
def _tokens(sampler, weights, images):
    tokenizer = sampler.tokenizer.bind({"params": weights.tokenizer})
    return tokenizer.quantize(tokenizer.encode(images, sampler.scales), sampler.scales)


def check_edited(images: HostArray, masks: HostArray, size: tuple[int, int]) -> None:
    """Raises ValueError unless images and masks are of that (height, width) and as many, or one."""
    expected = f"{size[0]} x {size[1]} pixels, height first; resize them"
    check(
        len(images) > 0 and np.shape(images)[1:] == (*size, 3),
        f"images: got the shape {np.shape(images)}, expected [images, height, width, 3] of "
        f"{expected}.",
    )
    check(
        len(masks) > 0 and np.shape(masks)[1:] == size,
        f"masks: got the shape {np.shape(masks)}, expected [masks, height, width] of {expected}.",
    )
    check(
        min(len(images), len(masks)) in (1, max(len(images), len(masks))),
        f"masks: got {len(masks)} for {len(images)} images, expected one for each, or one of both.",
    )
    for name, array, low in (("images", images, -1), ("masks", masks, 0)):
        values = np.asarray(array, np.float32)
        check(
            bool(values.min() >= low and values.max() <= 1),
            f"{name}: got values outside of [{low}, 1] or NaN, expected numbers in it: "
            f"{'x / 127.5 - 1' if low else 'x / 255'} of bytes.",
        )


def keep_tokens(
    source: Sequence[Forced],
    masks: Float[np.ndarray, "batch height width_px"],
    sampler: Sampler,
    *,
    strength: int | float,
    threshold: int | float,
) -> tuple[Forced, ...]:
    """What a request is given so that it keeps tokens, and sums of codes, outside of masks.

    source: the images' tokens, as of `source_of`, or `inversion.invert` with noise
    masks: what of the images is drawn anew, from 0 to 1
    strength: the share of the scales that are drawn, from 0 to 1; the coarse ones are kept whole
    threshold: a token is drawn where more than this share of its cell is white, from 0 to 1

    Raises ValueError for a strength or threshold outside of them.
    """
    check_range("strength", strength, 0, 1)
    check_range("threshold", threshold, 0, 1)
    sizes, patch = sampler.scales.sizes, sampler.tokenizer.config.patch
    first = round((1 - strength) * len(sizes))  # to draw
    kept = [
        (white_shares(masks, size) <= threshold) | (scale < first)
        for scale, size in enumerate(sizes)
    ]
    held = kept[-1].repeat(patch, axis=1).repeat(patch, axis=2).astype(np.float32)
    return tuple(
        replace(own, mask=mask.reshape(len(mask), -1).astype(np.float32), held=held)
        for own, mask in zip(source, kept)
    )


@in_32_bits
def white_shares(
    masks: Float[np.ndarray, "batch height width_px"], size: tuple[int, int]
) -> Float[np.ndarray, "batch h w"]:
    """The mean of a mask over every cell of a grid of (height, width) `size` in tokens."""
    return np.asarray(resize_area(jnp.asarray(masks, jnp.float32)[..., None], size)[..., 0])


def paste_back(
    images: Float[HostArray, "images height width_px 3"],
    drawn: Float[np.ndarray, "batch height width_px 3"],
    masks: Float[HostArray, "masks height width_px"],
    feather: int | float,
) -> Float[np.ndarray, "batch height width_px 3"]:
    """Drawn images with the given ones outside of the masks, whose pixels stay exactly.

    There is an image and a mask for each that is drawn, or one for all. Inside, the drawn image
    fades in over `feather` pixels from the edge. Raises ValueError for a negative one.
    """
    check(feather >= 0, f"feather: got {feather}, expected pixels from 0 on.")
    images, masks = (np.asarray(array, np.float32) for array in (images, masks))
    share = np.stack([_faded(mask, feather) for mask in masks])[..., None]
    mixed = images + share * (drawn - images)
    return np.where(share == 0, images, np.where(share == 1, drawn, mixed))


def _faded(mask: np.ndarray, feather: int | float) -> np.ndarray:
    """The mask times the distance from its black in pixels, over `feather` + 1, up to 1."""
    if np.all(mask > 0):
        return mask  # the image's border is no edge
    from scipy import ndimage  # noqa: PLC0415  a quarter of the time to import all

    distance = ndimage.distance_transform_edt(mask > 0)
    return mask * np.minimum(distance / (feather + 1), 1).astype(np.float32)
