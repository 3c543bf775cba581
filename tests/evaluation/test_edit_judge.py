"""Edits of scenes that are judged: what is asked for, and figures of edits that are known."""

from dataclasses import replace

import numpy as np
import pytest

from mvar_jax.data.scene_captions import is_held_out, parse_object
from mvar_jax.data.scenes import HUES, draw_scene, render
from mvar_jax.evaluation.edit_judge import class_of, kept_pixels, mask_of, psnr_where, scene_edits


def test_every_edit_changes_one_thing_that_was_trained_on():
    edits = scene_edits(40, 16, hues=True)
    for i, (before, wanted) in enumerate(zip(edits.before, edits.wanted)):
        (label, hue), (new_label, new_hue) = parse_object(before), parse_object(wanted)
        assert (label == new_label) == (i % 2 == 1) and (hue == new_hue) == (i % 2 == 0)
        assert not is_held_out(new_label, new_hue) and hue in HUES
    assert len(set(edits.wanted)) > 30
    classes = scene_edits(40, 16, hues=False)
    assert all(
        parse_object(one)[0] != parse_object(two)[0]
        for one, two in zip(classes.before, classes.wanted)
    )
    assert edits.images.shape == (40, 16, 16, 3) and 0.4 < edits.masks.mean() < 0.75


def test_the_mask_holds_the_object():
    """Another object in its place, with its shadow, changes next to nothing outside."""
    for number in range(10):
        scene = draw_scene(2, number)
        image, other = (render(replace(scene, label=label), 64) for label in (0, 1))
        changed = np.abs(image.astype(int) - other).max(axis=-1) > 60
        assert changed.sum() > 100 and np.all(mask_of(scene, 64)[changed] == 1)


def test_only_what_is_kept_is_measured():
    edits = scene_edits(4, 16, hues=True)
    changed = edits.images + np.where(edits.masks[..., None] == 1, 0.5, 0.2)
    kept = edits.masks == 0
    assert psnr_where(kept, changed, edits.images) == pytest.approx(20, abs=1e-3)
    kept[0] = False  # an image of which nothing is kept counts for nothing
    assert psnr_where(kept, changed, edits.images) == pytest.approx(20, abs=1e-3)


def test_pixels_are_kept_with_their_token():
    masks = np.zeros((1, 4, 4), np.float32)
    masks[0, :2, :2] = [[1, 1], [1, 0]]
    kept = kept_pixels(masks, (2, 2), 0.5)
    np.testing.assert_array_equal(kept[0], [[0, 0, 1, 1], [0, 0, 1, 1], [1] * 4, [1] * 4])
    assert kept_pixels(masks, (2, 2), 0.75).all()


def test_a_class_is_the_last_word_of_the_object():
    assert class_of("a small dark red plain gear on pale green") == "gear"
