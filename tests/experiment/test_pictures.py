"""Pictures of a run: drawn alike each time, written and returned."""

import jax
import numpy as np
from PIL import Image

from mvar_jax.experiment.pictures import (
    COLUMNS,
    GROWING,
    classes_shown,
    decode_scales,
    tokenizer_pictures,
    trunk_pictures,
)
from mvar_jax.pictures.image_grid import GAP
from mvar_jax.sampling import Sampler
from tests.training.tiny import (
    CONFIG,
    TOKENIZER,
    TRUNK,
    batch,
    eval_batches,
    frozen,
    tokenizer_state,
    trunk_state,
)


def test_samples_of_every_class_from_the_average(tmp_path):
    names = ("tench, Tinca tinca", "pill", "star")
    draw = trunk_pictures(CONFIG, Sampler(TRUNK, TOKENIZER), classes_shown(names))
    state, path = trunk_state(), tmp_path / "samples" / "7.png"
    other = jax.tree.map(lambda array: -array, state.params)
    pixels = draw(state, path, frozen())
    assert pixels.dtype == np.uint8 and pixels.shape[0] == 3 * (2 * 8 + GAP) + GAP
    assert pixels.shape[1] > COLUMNS * (2 * 8 + GAP)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels)
    again = draw(state.replace(params=other), tmp_path / "again.png", frozen())
    np.testing.assert_array_equal(again, pixels)


def test_images_beside_their_reconstructions(tmp_path):
    draw = tokenizer_pictures(TOKENIZER, eval_batches())
    state, path = tokenizer_state(), tmp_path / "samples" / "7.png"
    pixels = draw(state, path)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels)
    np.testing.assert_array_equal(draw(state, tmp_path / "again.png"), pixels)
    assert pixels.shape[0] == (2 + GROWING) * (2 * 8 + GAP) + 2 * GAP


def test_all_scales_decode_to_the_reconstruction():
    params, images = tokenizer_state().params, batch()["image"]
    grown = decode_scales(TOKENIZER, params, images)
    assert grown.shape == (2, *images.shape)
    whole = np.clip(TOKENIZER.apply({"params": params}, images)[0], -1, 1)
    np.testing.assert_allclose(grown[-1], whole, atol=1e-5)
    assert np.abs(grown[0] - grown[-1]).max() > 1e-3
