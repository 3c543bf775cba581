"""A model that serves requests: few programs, images by number, images scale by scale."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from mvar_jax.config import Config, SamplingConfig
from mvar_jax.sampling import Model
from tests.sampling.test_generate import tiny_models

COMPILED = "/jax/core/compile/backend_compile_duration"


def tiny_model(*arguments, **changes):
    """A model of three classes, of the tiny models with random weights."""
    sampler, weights = tiny_models(*arguments, **changes)
    config = Config(
        tokenizer=sampler.tokenizer.config,
        model=sampler.trunk.config,
        sampling=SamplingConfig(guidance=1.0, top_k=0, top_p=0.9),
    )
    return Model(config, ("cat", "dog", "owl"), sampler, weights)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def compiled():
    """How many programs are compiled, or taken from a cache of compiled ones, from here on."""
    count = [0]

    def listen(event, duration, **_):
        count[0] += event == COMPILED

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield count
    jax.monitoring.unregister_event_duration_listener(listen)


def test_twenty_requests_compile_four_programs(model, compiled):
    rng = np.random.default_rng(0)
    for seed in range(20):
        labels = rng.integers(3, size=1 + seed % 8).tolist()
        samples = model.sample(labels, seed, guidance=seed / 4, top_k=seed % 16, temperature=0.7)
        assert len(samples.images) == len(labels)
    assert compiled[0] <= 4


def test_a_seed_and_a_number_name_an_image(model):
    labels = [0, 1, 2, 0, 1, 2, 0, 1, 2]
    grid = model.sample(labels, seed=3)
    again = model.sample([labels[7], labels[2]], seed=3, numbers=[7, 2])
    for one, other in zip(again.tokens, grid.tokens, strict=True):
        np.testing.assert_array_equal(one, other[[7, 2]])
    np.testing.assert_allclose(again.images, grid.images[[7, 2]], atol=1e-5)
    other = model.sample([labels[7]], seed=3, numbers=[8])
    assert np.any(other.images != again.images[:1])


def test_a_batch_of_any_size_gives_the_same_tokens_and_nearly_the_same_pixels(model):
    labels = np.arange(16) % 3
    whole = model.sample(labels.tolist(), seed=1)
    for size in range(1, 17):
        part = model.sample(labels[:size].tolist(), seed=1)
        for one, other in zip(part.tokens, whole.tokens, strict=True):
            np.testing.assert_array_equal(one, other[:size])
        np.testing.assert_allclose(part.images, whole.images[:size], rtol=0, atol=1.4e-6)
        difference = pixels(part.images).astype(int) - pixels(whole.images[:size])
        assert np.abs(difference).max() <= 1 and np.mean(difference != 0) < 1e-3


def pixels(images):
    return np.round((images + 1) * 127.5).astype(np.uint8)


def test_a_stream_shows_every_scale_and_ends_in_the_sample(model):
    labels = ["cat", "owl", "dog"]
    whole, grown = model.sample(labels, seed=5), model.grow(labels, seed=5)
    steps = list(model.stream(labels, seed=5))
    assert len(steps) == 3 and [len(step.tokens) for step in steps] == [1, 2, 3]
    for step, images in zip(steps, grown, strict=True):
        np.testing.assert_array_equal(pixels(step.images), pixels(images))
    for one, other in zip(steps[-1].tokens, whole.tokens, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(pixels(steps[-1].images), pixels(whole.images))


def test_a_stream_checks_its_arguments_before_the_first_image(model):
    with pytest.raises(ValueError, match="labels: got 'fox'"):
        model.stream(["fox"])


def test_a_stream_under_a_policy(model):
    small = model.compressed("sliding_window", budget=4)
    whole, (*_, last) = small.sample([0, 1], seed=2), small.stream([0, 1], seed=2)
    np.testing.assert_array_equal(pixels(last.images), pixels(whole.images))


def test_labels_are_parted_by_commas_but_names_with_commas_stay_whole(model):
    names = ("tench, Tinca tinca", "tench", "ox", "3", "a, b, c", "a, b")
    named = replace(model, class_names=names)
    for text, expected in (
        ("3", [3]),
        ("tench, Tinca tinca", [0]),
        ("tench,Tinca tinca, ox,tench", [0, 2, 1]),
        ("ox,tench,2", [2, 1, 2]),
        ("a,b,c,a, b,ox", [4, 5, 2]),
        (" all ", [0, 1, 2, 3, 4, 5]),
    ):
        assert named.label_indices(named.parse_labels(text)).tolist() == expected
    assert replace(model, class_names=("cat", "all", "owl")).parse_labels("all") == ["all"]
    for text in ("", "ox,", "all,ox", "Tinca"):
        with pytest.raises(ValueError, match="labels: got"):
            named.label_indices(named.parse_labels(text))
