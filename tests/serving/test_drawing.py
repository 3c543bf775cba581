"""What the page is told: images scale by scale, those of the command line."""

import contextlib
import shlex

import jax
import numpy as np
import pytest

import mvar_jax
from mvar_jax.config import parse_aspect
from tests.sampling.kinds import model_of
from tests.sampling.test_model import compiled  # noqa: F401  a fixture
from tests.serving.site import (
    SETTINGS,
    Gated,
    all_events,
    asking,
    drawer,
    opened,
    picture_of,
    pixels_of,
    running,
    scales_of,
    until,
)


@pytest.fixture(scope="module")
def site():
    with running(drawer()) as address:
        yield address


def half_masked():
    """An image of the models' size and a mask whose right half is white, as pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    mask = np.zeros((8, 12, 3), np.uint8)
    mask[:, 6:] = 255
    return pixels, mask


def test_every_scale_shows_the_images_of_a_stream(site):
    heard = all_events(site, subject="dog,0", columns=2, seed=5)
    steps = list(model_of("VAR").stream(["dog", "dog", 0, 0], seed=5, **SETTINGS))
    assert [kind for kind, _ in heard if kind != "loading"] == ["started", *["scale"] * 3, "done"]
    for values, step in zip(scales_of(heard), steps, strict=True):
        drawn = np.stack([pixels_of(picture) for picture in values["images"]])
        np.testing.assert_array_equal(drawn, mvar_jax.to_uint8(step.images))
        assert len(values["tokens"]) == 4
    assert pixels_of(scales_of(heard)[-1]["tokens"][0]).shape == (2, 3, 3)


def test_images_arrive_while_the_next_scale_is_not_drawn_yet():
    gated = drawer(kind=Gated)
    with running(gated) as address, asking(address) as heard:
        for expected in ("loading", "started", "scale", "scale", "scale", "done"):
            kind, _ = next(event for event in heard if event[0] != "waiting")
            assert kind == expected  # the next one waits for the permit
            gated.permits.release()


def test_who_goes_is_drawn_no_further_and_the_next_one_is():
    gated = drawer(kind=Gated)
    with running(gated) as address:
        with asking(address, seed=1) as heard:
            gated.permits.release(2)
            assert any(kind == "scale" for kind, _ in heard)
        with contextlib.ExitStack() as stack:
            waiting = stack.enter_context(asking(address, seed=2))
            assert next(waiting)[0] == "waiting"
            gated.permits.release(100)
            assert [kind for kind, _ in waiting][-1] == "done"
    assert gated.begun == gated.left == [1, 2]


def test_two_visitors_are_served_in_turn():
    gated = drawer(kind=Gated)
    with running(gated) as address, asking(address, seed=1) as one:
        until(lambda: gated.begun)
        with asking(address, seed=2, subject="owl") as other:
            assert next(event for event in other if event[1].get("ahead"))[1] == {"ahead": 1}
            gated.permits.release(100)
            first, second = list(one), list(other)
    assert first[-1][0] == second[-1][0] == "done"
    assert gated.begun == [1, 2]
    for heard, label, seed in ((first, "dog", 1), (second, "owl", 2)):
        expected = model_of("VAR").sample([label], seed, **SETTINGS).images
        drawn = pixels_of(scales_of(heard)[-1]["images"][0]).astype(int)
        assert np.abs(drawn - mvar_jax.to_uint8(expected)[0]).max() <= 1


def test_a_prompt_is_drawn_without_what_another_says_in_another_shape(site):
    asked = {"model": 2, "subject": "a dog", "negative": "fog", "aspect": "2:3", "seed": 3}
    heard = all_events(site, **asked)
    model = opened("runs/texts", texts=True).reshaped(aspect=parse_aspect("2:3"))
    expected = model.sample("a dog", 3, negative="fog", **SETTINGS).images
    drawn = pixels_of(scales_of(heard)[-1]["images"][0]).astype(int)
    assert np.abs(drawn - mvar_jax.to_uint8(expected)[0]).max() <= 1
    plain = scales_of(all_events(site, **asked | {"negative": ""}))[-1]["images"][0]
    assert np.any(pixels_of(plain) != drawn)
    words = shlex.split(dict(heard)["started"]["runs"][0]["command"])
    assert {"--prompt=a dog", "--negative=fog", "--aspect=2:3"} <= {*words}


def test_an_edit_keeps_the_pixels_outside_of_the_mask(site):
    pixels, mask = half_masked()
    edit = {"image": picture_of(pixels), "mask": picture_of(mask), "feather": 1.0}
    heard = all_events(site, edit=edit, seed=3)
    images, masks = pixels[None] / np.float32(127.5) - 1, mask[None, ..., 0] / np.float32(255)
    expected = model_of("VAR").edit(images, masks, ["dog"], seed=3, feather=1.0, **SETTINGS)
    for values in scales_of(heard):
        drawn = pixels_of(values["images"][0])
        np.testing.assert_array_equal(drawn[:, :6], pixels[:, :6])
    assert np.abs(drawn.astype(int) - mvar_jax.to_uint8(expected.images)[0]).max() <= 2
    assert np.mean(drawn[:, 6:] != pixels[:, 6:]) > 0.5


def test_an_image_is_drawn_with_its_own_noise(site):
    pixels, mask = half_masked()
    edit = {"image": picture_of(pixels), "mask": picture_of(0 * mask + 255), "source": "dog"}
    same = all_events(site, edit=edit | {"paste": False}, model=1)
    kept = all_events(site, edit=edit | {"paste": False, "strength": 0.0}, model=1)
    for one, other in zip(scales_of(same), scales_of(kept), strict=True):
        assert one["tokens"] == other["tokens"]


def check_compared(compared, one, other):
    """Compares PSNR and differences with those of two batches of pictures."""
    difference = np.abs(one.astype(int) - other)
    error = np.mean((difference / 127.5) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(compared["psnr"], 10 * np.log10(4 / error), rtol=1e-5)
    shown = [pixels_of(picture) for picture in compared["differences"]]
    np.testing.assert_array_equal(shown, np.minimum(4 * difference, 255))


def test_policies_are_compared_on_the_same_noise(site):
    policies = [{}, {"name": "sliding_window", "budget": 4}]
    heard = all_events(site, policies=policies, columns=2, seed=1)
    model = model_of("VAR")
    started = dict(heard)["started"]["runs"]
    small = model.compressed("sliding_window", budget=4)
    assert tuple(started[0]["cache_bytes"]) == model.cache_bytes()
    assert tuple(started[1]["cache_bytes"]) == small.cache_bytes()
    order = [(values["scale"], values["run"]) for kind, values in heard if kind == "scale"]
    assert order == [(scale, run) for scale in range(3) for run in range(2)]
    compared = dict(heard)["compared"]
    pictures = [
        np.stack([pixels_of(picture) for picture in scales_of(heard, run)[-1]["images"]])
        for run in range(2)
    ]
    for drawn, own in zip(pictures, (model, small)):
        *_, last = own.stream(["dog"] * 2, 1, **SETTINGS)
        np.testing.assert_array_equal(drawn, mvar_jax.to_uint8(last.images))
    check_compared(compared, *pictures)
    assert compared["equal_tokens"][0] == 1.0


def test_edits_are_compared_as_they_are_shown(site):
    pixels, mask = half_masked()
    edit = {"image": picture_of(pixels), "mask": picture_of(mask), "strength": 1.0}
    policies = [{}, {"name": "sliding_window", "budget": 4}]
    heard = all_events(site, edit=edit, policies=policies)
    pictures = [pixels_of(scales_of(heard, run)[-1]["images"][0])[None] for run in range(2)]
    check_compared(dict(heard)["compared"], *pictures)
    assert all(np.all(drawn[0, :, :6] == pixels[:, :6]) for drawn in pictures)


def test_equal_images_have_no_psnr(site):
    compared = dict(all_events(site, policies=[{}, {"name": "full"}]))["compared"]
    assert compared["psnr"] == [None] and compared["equal_tokens"] == [1.0] * 3


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"subject": "fox"}, "labels: got 'fox', expected class indices from 0 to 2"),
        ({"policies": [{"name": "best"}]}, "policy: got 'best', expected one of"),
        ({"policies": [{"name": "hack", "ratio": 0.5}]}, "make one with python -m mvar_jax.calib"),
        ({"model": 1, "policies": [{"name": "full"}]}, "there is no cache to compress"),
        ({"negative": "fog"}, "negative: the model draws classes"),
        ({"aspect": "3:2"}, "aspect: the positions of this model are learned"),
        ({"settings": {"top_k": 17}}, "top_k"),
        ({"model": 2, "aspect": "9:1"}, "aspect"),
        ({"subject": "0,1,2", "columns": 16}, "expected at most 16 images"),
    ],
)
def test_what_the_model_does_not_take_is_one_sentence(site, asked, sentence):
    kind, values = all_events(site, **asked)[-1]
    assert kind == "error"
    assert sentence in values["sentence"] and "\n" not in values["sentence"]


def test_the_command_line_repeats_what_was_drawn(site):
    (run,) = dict(all_events(site, subject="owl", columns=2, seed=7))["started"]["runs"]
    words = shlex.split(run["command"])
    assert words[:3] == ["python", "-m", "mvar_jax.sample"]
    assert {"--workdir=runs/var", "--labels=owl", "--columns=2", "--seed=7"} <= {*words}
    assert {"--guidance=1.0", "--top_p=0.9"} <= {*words}


def test_a_hundred_requests_compile_few_programs_and_leave_no_arrays(compiled):  # noqa: F811
    pixels, mask = half_masked()
    edit = {"image": picture_of(pixels), "mask": picture_of(mask)}
    small = {"name": "sliding_window", "budget": 4}
    kinds = [
        {},
        {"columns": 2},
        {"model": 1},
        {"policies": [{}, small]},
        {"edit": edit},
        {"subject": "nothing"},
    ]
    with running(drawer()) as address:

        def ask(count, first):
            for seed in range(first, first + count):
                settings = SETTINGS | {"guidance": seed / 10, "top_k": seed % 16}
                all_events(address, seed=seed, settings=settings, **kinds[seed % len(kinds)])

        ask(12, 0)
        programs, arrays = compiled[0], len(jax.live_arrays())
        ask(88, 12)
    assert compiled[0] <= programs + 2
    assert len(jax.live_arrays()) <= arrays


def test_programs_are_forgotten_when_there_are_too_many():
    limited = drawer(most_programs=3)
    with running(limited) as address:
        all_events(address, seed=1)
        assert all_events(address, seed=1, columns=2)[-1][0] == "done"
    assert limited.models.compiled <= 3
