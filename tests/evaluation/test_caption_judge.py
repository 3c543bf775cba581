import numpy as np
import pytest

from mvar_jax.data.scene_captions import is_held_out, parse_object
from mvar_jax.data.scenes import HUES
from mvar_jax.evaluation.caption_judge import CaptionJudge, fresh_captions, fresh_images
from mvar_jax.evaluation.color_histograms import HUES as BINS
from mvar_jax.evaluation.color_histograms import color_histograms


@pytest.fixture(scope="module")
def judge():
    return CaptionJudge(64, scenes=1000)


def test_real_images_follow_their_captions(judge):
    found = judge.judge(*fresh_images(200, 64, held_out=True))
    assert found.hue > 0.95 and found.label > 0.8
    assert found.hue + found.label - 1 - 1e-9 <= found.both <= min(found.hue, found.label)


def test_other_captions_are_not_followed(judge):
    images, captions = fresh_images(200, 64, held_out=False)
    recaptioned = [f"a small dark {hue} plain ball on pale red" for hue in np.resize(HUES, 200)]
    found = judge.judge(images, recaptioned)
    assert found.hue < 0.3 and found.label < 0.3 and found.both < 0.1
    swapped = [caption.replace(parse_object(caption)[1], HUES[0]) for caption in captions]
    asked = [parse_object(caption)[1] == HUES[0] for caption in captions]
    assert judge.judge(images, swapped).hue == pytest.approx(np.mean(asked), abs=0.05)


@pytest.mark.parametrize("held_out", [True, False])
def test_captions_are_of_the_combinations_asked_for(held_out):
    captions = fresh_captions(100, held_out=held_out)
    assert {is_held_out(*parse_object(caption)) for caption in captions} == {held_out}
    assert len({parse_object(caption)[0] for caption in captions}) == 10


@pytest.mark.parametrize("caption", ["", "a fox", "a small dark teal plain gear on pale green"])
def test_a_text_that_is_no_caption_of_a_scene_is_refused(caption):
    with pytest.raises(ValueError, match="expected one as of a scene"):
        parse_object(caption)


def test_colours_are_told_apart_and_places_are_not():
    hues = np.arange(BINS) / BINS + 0.5 / BINS
    spread = np.abs((hues[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    colors = np.clip(spread, 0, 1)[:, None, None] * np.ones((1, 8, 8, 1)) * 2 - 1
    features = color_histograms(colors)
    assert len(np.unique(features.argmax(axis=1))) == BINS
    np.testing.assert_allclose((features**2).mean(axis=1), 1)
    left, right = np.full((2, 1, 8, 8, 3), -0.5)
    left[:, :, :4], right[:, :, 4:] = colors[3, 0, 0], colors[3, 0, 0]
    np.testing.assert_array_equal(color_histograms(left), color_histograms(right))
