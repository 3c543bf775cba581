"""Pictures of the samples of a training run, with the same labels and keys each time."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from mvar_jax.array_types import Array, Float, HostArray, Params
from mvar_jax.config import Config
from mvar_jax.mesh.processes import on_host
from mvar_jax.models import ClassLabels, Condition
from mvar_jax.pictures.image_files import save_picture
from mvar_jax.pictures.image_grid import (
    growth_grid,
    image_grid,
    reconstruction_grid,
    stacked,
)
from mvar_jax.sampling import Filters, Sampler, Weights, generate
from mvar_jax.sampling.request import NumberedRequest
from mvar_jax.tokenizers import Tokenizer
from mvar_jax.training.state import TrainState
from mvar_jax.training.step import Frozen

ROWS = 8
COLUMNS = 4  # images of each row
RECONSTRUCTIONS = 10
GROWING = 4  # images that are shown after every scale
ENLARGE_BELOW = 64  # pixels, along the shorter side

Draw = Callable[..., np.ndarray]


class Shown(NamedTuple):
    """What pictures of samples are of: a condition per row, and what stands beside it."""

    condition: Condition  # [rows]
    names: tuple[str, ...]


def classes_shown(class_names: tuple[str, ...]) -> Shown:
    """Up to `ROWS` classes, spread over all."""
    classes = np.linspace(0, len(class_names) - 1, min(ROWS, len(class_names))).astype(np.int32)
    return Shown(ClassLabels(classes), tuple(class_names[i] for i in classes))


def trunk_pictures(config: Config, sampler: Sampler, shown: Shown) -> Draw:
    """`draw(state, path, frozen)`: writes samples, returns their pixels.

    Of each row `COLUMNS` images, as the config samples.
    """
    count = len(shown.names) * COLUMNS
    asked = NumberedRequest(
        condition=jax.tree.map(partial(np.repeat, repeats=COLUMNS, axis=0), shown.condition),
        seed=np.uint32(config.seed),
        numbers=np.arange(count, dtype=np.uint32),
        filters=Filters.of(config.sampling, len(sampler.scales)),
    )

    def draw(state: TrainState, path: Path, frozen: Frozen) -> np.ndarray:
        weights = Weights(frozen.trunk(state.sampling_params), frozen.tokenizer)
        images = on_host(generate(sampler, weights, asked.request()).images)
        return _write(image_grid(images, COLUMNS, shown.names, scale=_scale(images)), path)

    return draw


def tokenizer_pictures(tokenizer: Tokenizer, validation: Iterable) -> Draw:
    """`draw(state, path)`: writes images and their reconstructions, returns the pixels.

    They are the first images of the validation split, beside their reconstructions, and below some
    of them decoded from the first scale alone, from the first two, and so on.
    """

    @jax.jit
    def reconstruct(params: Params, images: HostArray) -> jax.Array:
        return jnp.clip(tokenizer.apply({"params": params}, images)[0], -1, 1)

    def draw(state: TrainState, path: Path) -> np.ndarray:
        images = next(iter(validation))["image"]
        decoded = on_host(reconstruct(state.sampling_params, images))
        grown = on_host(decode_scales(tokenizer, state.sampling_params, images[:GROWING]))
        images = on_host(images)
        pair = images[:RECONSTRUCTIONS], decoded[:RECONSTRUCTIONS]
        size = _scale(images)
        growing = growth_grid(grown, ["by scale"] * grown.shape[1], size)
        return _write(
            stacked([reconstruction_grid(*pair, RECONSTRUCTIONS, scale=size), growing]), path
        )

    return draw


@partial(jax.jit, static_argnums=0)
def decode_scales(
    tokenizer: Tokenizer, params: Params, images: Float[Array, "batch h w 3"]
) -> Float[Array, "scales batch h w 3"]:
    """Images decoded from their tokens of the first scale, of the first two, up to all scales."""
    bound = tokenizer.bind({"params": params})
    running, stages = bound.start(len(images)), []
    for scale, tokens in enumerate(bound.quantize(bound.encode(images))):
        running, _ = bound.accumulate(running, bound.embed(tokens), scale)
        stages.append(running)
    return jax.lax.map(bound.decode, jnp.stack(stages))  # one decoder to compile


def _scale(images: np.ndarray) -> int:
    return 2 if min(images.shape[1:3]) < ENLARGE_BELOW else 1


def _write(picture: Image.Image, path: Path) -> np.ndarray:
    if jax.process_index() == 0:
        save_picture(picture, path)
    return np.asarray(picture)
