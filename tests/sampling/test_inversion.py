"""Inverted noise gives the tokens of its source back, all of them, and others with other labels."""

import jax
import numpy as np
import pytest

from tests.sampling.kinds import KINDS, asked_of, assert_same, model_of, two_images
from tests.sampling.test_model import tiny_model


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_label_gives_the_source_back(kind):
    model, labels = model_of(kind), asked_of(kind)
    noise = model.invert(two_images(), labels, seed=1)
    source = [own.tokens for own in model.keep(two_images(), np.zeros((1, 8, 12)))]
    for settings in ({}, {"top_k": 1, "top_p": 0.0}, {"top_p": 0.05}):  # filters do not matter
        again = model.sample(labels, seed=9, forced=noise, **settings)
        assert_same(again.tokens, source)
    *_, last = model.stream(labels, forced=noise)
    assert_same(last.tokens, source)
    other = model.sample(asked_of(kind, (1, 2)), forced=noise)
    assert any(np.any(one != two) for one, two in zip(other.tokens, source))
    free = model.sample(labels, seed=9)
    assert any(np.any(one != two) for one, two in zip(free.tokens, source))


def test_the_seed_chooses_among_noise_and_guidance_matters():
    model = model_of("VAR")
    one, again, other = (model.invert(two_images(), [0, 1], seed) for seed in (1, 1, 2))
    assert_same([scale.noise for scale in one], [scale.noise for scale in again])
    assert np.any(one[-1].noise != other[-1].noise)
    strong = model.invert(two_images(), [0, 1], seed=1, guidance=5.0, temperature=0.5)
    back = model.sample([0, 1], forced=strong, guidance=5.0, temperature=0.5)
    assert_same(back.tokens, [scale.tokens for scale in strong])


@pytest.mark.parametrize("policy", [{"policy": "sliding_window", "budget": 4}])
def test_a_policy_gives_back_what_it_inverted(policy):
    small = model_of("VAR").compressed(**policy)
    noise = small.invert(two_images(), [0, 1])
    assert_same(small.sample([0, 1], forced=noise).tokens, [scale.tokens for scale in noise])


def test_a_draft_gives_back_what_it_inverted():
    both = model_of("M-VAR").drafted(tiny_model(("history",), 32), scales=2)
    noise = both.invert(two_images(), [0, 1])
    assert_same(both.sample([0, 1], forced=noise).tokens, [scale.tokens for scale in noise])


def test_masks_keep_tokens_and_noise_draws_the_others():
    model, masks = model_of("M-VAR"), np.zeros((1, 8, 12))
    masks[:, :, 6:] = 1
    noise = model.invert(two_images(), [0, 1])
    same = model.edit(two_images(), masks, [0, 1], noise=noise)
    assert_same(same.tokens, [scale.tokens for scale in noise])
    one = jax.tree.map(lambda array: array[:1], noise)
    many = model.edit(two_images()[:1], np.tile(masks, (3, 1, 1)), [0, 0, 0], noise=one)
    assert_same(many.tokens, [np.repeat(scale.tokens[:1], 3, axis=0) for scale in noise])
    other = model.edit(two_images(), masks, [2, 2], noise=noise)
    assert np.any(other.tokens[-1] != same.tokens[-1])


def test_what_cannot_be_inverted_is_named():
    model = model_of("VAR")
    with pytest.raises(ValueError, match="smooth: got True"):
        model.invert(two_images(), [0, 1], smooth=True)
    with pytest.raises(ValueError, match="forced: got tokens of 2 images for 3"):
        model.invert(two_images(), [0, 1, 2])
