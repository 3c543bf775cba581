"""The requests that the arguments of a drawing are turned into."""

import numpy as np
import pytest

from mvar_jax.sampling import Forced
from mvar_jax.sampling.request_builder import RequestBuilder
from tests.sampling.kinds import model_of
from tests.sampling.test_text_policies import three_prompts

NOTHING = {"numbers": None, "negative": None, "forced": None, "settings": {}}


def build(kind, labels, seed=0, **arguments):
    model = model_of(kind)
    builder = RequestBuilder(
        model.config, model.class_names, model.sampler, model.weights, model.text_encoder
    )
    return builder.build(labels, seed, **NOTHING | arguments)


def given(images):
    """Tokens of so many images at the three scales, none of which is kept."""
    zeros = [np.zeros((images, n)) for n in (1, 2, 6)]
    return [Forced(own.astype(np.int32), own.astype(np.float32)) for own in zeros]


def test_images_are_numbered_from_0_on_or_as_asked():
    _, request = build("VAR", ["owl", 0], 7)
    assert request.condition.label.tolist() == [2, 0]
    assert request.seed == 7 and request.numbers.tolist() == [0, 1]
    assert build("VAR", [1, 1], numbers=[2**32 - 1, 3])[1].numbers.tolist() == [2**32 - 1, 3]
    assert build("VAR", "cat", numbers=5)[1].numbers.tolist() == [5]


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [([0], "got 1 for 2 images"), ([0, -1], "from 0"), ([0, 2**32], "got 4294967296")],
)
def test_numbers_that_name_no_image_are_refused(numbers, sentence):
    with pytest.raises(ValueError, match=f"numbers.*{sentence}"):
        build("VAR", [0, 1], numbers=numbers)


def test_settings_come_before_those_of_the_config():
    settings = {"guidance": 2.0, "top_k": 4, "smooth": True, "guidance_layer": 1}
    sampler, request = build("VAR", 0, settings=settings)
    assert sampler.smooth and sampler.guidance_layer == 1
    np.testing.assert_allclose(request.filters.guidance, [0, 1, 2])
    assert request.filters.top_k == 4 and request.filters.top_p == np.float32(0.9)
    for settings, sentence in (({"top_q": 1}, "top_q"), ({"top_p": 2.0}, "top_p")):
        with pytest.raises(ValueError, match=sentence):
            build("VAR", 0, settings=settings)


def test_without_labels_there_are_as_many_images_as_given_tokens():
    model = model_of("VAR")
    _, request = build("VAR", None, forced=given(2))
    assert request.condition.label.tolist() == [model.config.model.num_classes] * 2
    assert [own.tokens.shape for own in request.forced] == [(2, 1), (2, 2), (2, 6)]
    with pytest.raises(ValueError, match="labels: got None"):
        build("VAR", None)


def test_one_negative_prompt_serves_all_and_both_are_padded_alike():
    prompts = three_prompts()
    away = prompts.rows(np.array([0])).padded(6)
    _, request = build("Infinity", prompts, negative=away)
    assert request.condition.mask.shape == request.negative.mask.shape == (3, 6)
    np.testing.assert_array_equal(request.negative.features, np.repeat(away.features, 3, axis=0))


@pytest.mark.parametrize(
    ("kind", "rows", "settings", "sentence"),
    [
        ("VAR", 1, {}, "draws classes, not prompts"),
        ("Infinity", 2, {}, "got 2 prompts for 3 images, expected 1 or 3"),
        ("Infinity", 1, {"guidance": 0.0}, "guidance is 0"),
    ],
)
def test_negative_prompts_that_cannot_work_are_refused(kind, rows, settings, sentence):
    labels = [0, 1, 2] if kind == "VAR" else three_prompts()
    away = three_prompts().rows(np.arange(rows))
    with pytest.raises(ValueError, match=f"negative: .*{sentence}"):
        build(kind, labels, negative=away, settings=settings)
