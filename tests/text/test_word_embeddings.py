"""The embeddings that the package wordllama ships."""

import importlib.util

import numpy as np
import pytest

from mvar_jax.convert.text_encoder import load_text_encoder
from mvar_jax.text import TextEncoder


@pytest.fixture(scope="module")
def words():
    return load_text_encoder("wordllama")


def test_features_are_the_embeddings_and_their_places(words):
    assert isinstance(words, TextEncoder) and words.width == 256
    made = words.encode(["a red ball", "", "red"])
    assert made.features.shape == (3, 16, 256) and made.lengths.tolist() == [4, 1, 2]
    tokens = words.tokenizer(["a red ball"])[0]
    places = made.features[0, :4] - words.embeddings[tokens]
    end, red = made.features[1, 0], made.features[2, 0]
    np.testing.assert_allclose(end - words.embeddings[tokens[3]], places[0], atol=1e-5)
    np.testing.assert_allclose(red - words.embeddings[tokens[1]], places[0], atol=1e-5)
    assert np.abs(places[1] - places[0]).max() > 0.5 * np.abs(places[0]).max()
    square, own = np.mean(places**2), np.mean(words.embeddings**2)
    assert square == pytest.approx(own, rel=0.02)


def test_another_order_is_another_text(words):
    made = words.encode(["red on green", "green on red"])
    np.testing.assert_allclose(made.features[0].sum(0), made.features[1].sum(0), atol=1e-4)
    assert np.abs(made.features[0] - made.features[1]).max() > 0.1


def test_words_of_one_kind_are_near(words):
    def vector(word):
        features = words.encode([word]).features[0, 0] - words.encode([""]).features[0, 0]
        features += words.embeddings[words.tokenizer([""])[0][0]]
        return features / np.linalg.norm(features)

    dog, animal, seven = map(vector, ("dog", "animal", "seven"))
    assert dog @ animal > 0.6 and abs(dog @ seven) < 0.1


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '.\[words\]' in the clone"):
        load_text_encoder("wordllama")
