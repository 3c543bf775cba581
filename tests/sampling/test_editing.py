"""Edits keep tokens, features and pixels outside of masks, for every kind of model."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax import to_uint8
from mvar_jax.evaluation.reconstruction import reconstruct
from mvar_jax.models.conditioner import guidance_rows
from mvar_jax.sampling import Filters, Forced, Request, generate_scales
from mvar_jax.sampling.editing import keep_tokens, paste_back, white_shares
from mvar_jax.sampling.guidance import guide
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers import BSQTokenizer
from tests.sampling.kinds import KINDS, asked_of, assert_same, model_of, two_images
from tests.sampling.test_generate import numbered
from tests.tokenizers.weights import bitwise_config

BLACK, WHITE = np.zeros((1, 8, 12)), np.ones((1, 8, 12))
RIGHT = np.where(np.arange(12) < 5, 0.0, WHITE)  # the edge lies inside a token


def tokens_of(model):
    return [own.tokens for own in model.keep(two_images(), BLACK)]


@pytest.mark.parametrize("kind", KINDS)
def test_kept_tokens_and_pixels_are_those_of_the_image(kind):
    model, images = model_of(kind), two_images()
    edited = model.edit(images, RIGHT, asked_of(kind), seed=2, strength=1, threshold=0.6)
    kept = ([False], [True, False], [True, False, False] * 2)  # white: 7/12, 1/6, 1, 1/4, 1, 1
    for drawn, own, mask in zip(edited.tokens, tokens_of(model), kept, strict=True):
        mask = np.array(mask) | (len(mask) == 1)  # 7/12 is less than 0.6
        np.testing.assert_array_equal(drawn[:, mask], own[:, mask])
    assert np.any(edited.tokens[-1] != tokens_of(model)[-1])
    black = np.broadcast_to(RIGHT == 0, images.shape[:3])
    np.testing.assert_array_equal(edited.images[black], images[black])
    np.testing.assert_array_equal(to_uint8(edited.images)[black], to_uint8(images)[black])
    assert np.all(np.any(edited.images[~black] != images[~black], axis=-1).mean() > 0.9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_black_mask_gives_the_reconstruction(kind):
    model, images = model_of(kind), two_images()
    edited = model.edit(images, BLACK, asked_of(kind), paste=False)
    assert_same(edited.tokens, tokens_of(model))
    np.testing.assert_allclose(edited.images, reconstruct(model, images), atol=1e-5)
    pasted = model.edit(images, BLACK, asked_of(kind))
    np.testing.assert_array_equal(pasted.images, images)


@pytest.mark.parametrize("kind", KINDS)
def test_the_trunk_remembers_what_is_kept(kind):
    """Its logits are those of one teacher-forced pass over what every scale was given to read."""
    model = model_of(kind)
    sampler, forced = model.sampler, model.keep(two_images(), RIGHT, threshold=0.5)
    condition, filters = model.condition(asked_of(kind)), Filters.of(model.config.sampling, 3)
    condition = jax.tree.map(jnp.asarray, condition)
    request = Request(condition, numbered(2, 5), filters, forced)
    trunk = sampler.trunk.bind({"params": model.weights.trunk})
    tokenizer = sampler.tokenizer.bind({"params": model.weights.tokenizer})

    @jax.jit
    def both(request):
        condition, forced = request.condition, request.forced
        steps = list(generate_scales(sampler, model.weights, request))
        read = [tokenizer.next_input(step.running, k) for k, step in enumerate(steps[:-1])]
        rows = guidance_rows(condition, trunk.null(condition))
        logits = trunk(rows, jnp.repeat(jnp.concatenate(read, axis=1), 2, axis=0))
        parts = [
            guide(logits[:, own], float(strength))
            for own, strength in zip(sampler.scales.slices, filters.guidance)
        ]
        given = tokenizer.start(2)
        for k, own in enumerate(forced):
            given, _ = tokenizer.accumulate(given, tokenizer.embed(own.tokens), k)
        return [step.logits for step in steps], parts, steps[-1].running, given

    logits, expected, running, given = both(request)
    for one, other in zip(logits, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * float(jnp.abs(other).max()))
    held = np.asarray(forced[-1].held) == 1
    assert held.any() and not held.all()
    np.testing.assert_array_equal(np.asarray(running)[held], np.asarray(given)[held])


def test_edits_stream_and_grow_and_heed_policies():
    model, images = model_of("VAR").compressed("sliding_window", budget=4), two_images()
    edited = model.edit(images, RIGHT, [0, 1], seed=3, paste=False)
    forced = model.keep(images, RIGHT)
    *_, last = model.stream([0, 1], seed=3, forced=forced)
    assert_same(last.tokens, edited.tokens)
    np.testing.assert_allclose(last.images, edited.images, atol=1e-5)
    grown = model.grow([0, 1], seed=3, forced=forced)
    np.testing.assert_allclose(grown[-1], edited.images, atol=1e-5)


def test_a_draft_edits():
    model, images = model_of("M-VAR"), two_images()
    both = model.drafted(model, scales=2)
    alone, drafted = (each.edit(images, RIGHT, [0, 1], seed=3) for each in (model, both))
    assert_same(drafted.tokens, alone.tokens)


def test_one_image_is_edited_for_many_labels_and_without_one():
    model, images = model_of("VAR"), two_images()[:1]
    edited = model.edit(images, WHITE, [0, 1, 2], seed=1, strength=1)
    assert_same(edited.tokens, model.sample([0, 1, 2], seed=1).tokens)
    free = model.edit(images, WHITE, seed=1, strength=1)
    unguided = model.edit(images, WHITE, seed=1, strength=1, guidance=0.0)
    assert_same(free.tokens, unguided.tokens)  # guidance leads away from the same
    assert any(np.any(one != two[:1]) for one, two in zip(free.tokens, edited.tokens))
    with pytest.raises(ValueError, match="labels: got None, expected labels, prompts or given"):
        model.sample(None)


def test_strength_keeps_the_first_scales():
    model, images = model_of("VAR"), two_images()
    for strength, first in ((0.0, 3), (0.3, 2), (0.7, 1), (1.0, 0)):
        masks = [own.mask for own in model.keep(images, WHITE, strength=strength)]
        assert [bool(mask.all()) for mask in masks] == [scale < first for scale in range(3)]
    default = [own.mask for own in model.keep(images, WHITE)]  # a quarter, rounded
    assert [bool(mask.all()) for mask in default] == [True, False, False]
    half = model.edit(images, WHITE, [0, 1], strength=0.3)
    assert_same(half.tokens[:2], tokens_of(model)[:2])


def test_tokens_are_drawn_where_their_cells_are_white_enough():
    tokenizer, schedule = BSQTokenizer(bitwise_config(2)), ScaleSchedule(((1, 1), (2, 2)))
    sampler = replace(model_of("VAR").sampler, tokenizer=tokenizer, schedule=schedule)
    source = [Forced(np.zeros((1, n, 24), np.uint8), np.zeros((1, n))) for n in (1, 4)]
    mask = np.zeros((1, 4, 4))
    mask[0, :2, :2] = [[1, 1], [1, 0]]
    np.testing.assert_allclose(white_shares(mask, (2, 2)), [[[0.75, 0], [0, 0]]])
    for threshold, drawn in ((0.0, (1, 1)), (0.2, (0, 1)), (0.75, (0, 0)), (1.0, (0, 0))):
        kept = keep_tokens(source, mask, sampler, strength=1.0, threshold=threshold)
        assert tuple(int((own.mask == 0).sum()) for own in kept) == drawn
        assert kept[0].held.shape == (1, 4, 4) and (kept[0].held == 0).sum() == 4 * drawn[1]


def test_what_is_pasted_fades_in_from_the_edge():
    images, drawn = np.zeros((1, 3, 8, 3), np.float32), np.ones((1, 3, 8, 3), np.float32)
    mask = np.broadcast_to(np.arange(8) >= 3, (1, 3, 8)).astype(np.float32)
    for feather, expected in ((0, [0] * 3 + [1] * 5), (3, [0] * 3 + [0.25, 0.5, 0.75, 1, 1])):
        np.testing.assert_allclose(paste_back(images, drawn, mask, feather)[0, 1, :, 0], expected)
    np.testing.assert_array_equal(paste_back(images, drawn, np.ones_like(mask), 3), drawn)
    grey = paste_back(images, drawn, mask / 2, 0)[0, 0, :, 1]
    np.testing.assert_allclose(grey, np.array([0] * 3 + [0.5] * 5))
    broken = paste_back(images, np.full_like(drawn, np.nan), mask, 1)
    np.testing.assert_array_equal(broken[:, :, :3], 0)


BAD = {
    "size": ((two_images()[:, :4], RIGHT), {}, r"images: got the shape \(2, 4, 12, 3\), .*8 x 12"),
    "mask": ((two_images(), RIGHT[:, :4]), {}, r"masks: got the shape \(1, 4, 12\), .* 8 x 12"),
    "counts": ((np.tile(two_images(), (2, 1, 1, 1)), np.tile(RIGHT, (3, 1, 1))), {}, "got 3 for 4"),
    "bytes": ((127 * (two_images() + 1), RIGHT), {}, r"images: got values outside of \[-1, 1\]"),
    "NaN": ((two_images() * np.nan, RIGHT), {}, "images: got values outside"),
    "white": ((two_images(), 255 * RIGHT), {}, r"masks: got values outside of \[0, 1\]"),
    "none": ((two_images()[:0], RIGHT), {}, "images: got the shape"),
    "strength": ((two_images(), RIGHT), {"strength": 1.1}, "strength: got 1.1"),
    "threshold": ((two_images(), RIGHT), {"threshold": -0.1}, "threshold: got -0.1"),
    "feather": ((two_images(), RIGHT), {"feather": -1}, "feather: got -1"),
    "label": ((two_images(), RIGHT, ["fox", "cat"]), {}, "labels: got 'fox'"),
    "labels": ((two_images(), RIGHT, ["dog"] * 3), {}, "forced: got tokens of 2 images for 3"),
}


@pytest.mark.parametrize("arguments, settings, sentence", BAD.values(), ids=BAD)
def test_bad_input_is_named(arguments, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        model_of("VAR").edit(*arguments, **settings)


def test_features_are_held_at_all_scales_or_none():
    model = model_of("VAR")
    first, *others = model.keep(two_images(), RIGHT)
    with pytest.raises(ValueError, match="forced: got held at 2 of 3 scales"):
        model.sample([0, 1], forced=[replace(first, held=None), *others])
    with pytest.raises(ValueError, match="tokens of 2 scales, expected 3"):
        model.sample([0, 1], forced=[Forced(own.tokens, own.mask) for own in others])
