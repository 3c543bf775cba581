"""The embeddings that the package wordllama ships."""

import importlib.util

import numpy as np
import pytest

from mvar_jax.convert.text_encoder import load_text_encoder
from mvar_jax.text import TextEncoder


@pytest.fixture(scope="module")
def words():
    if importlib.util.find_spec("wordllama") is None:
        pytest.skip("wordllama is not installed")
    return load_text_encoder("wordllama")


def test_features_are_the_embeddings_in_order(words):
    assert isinstance(words, TextEncoder) and words.width == 256
    made = words.encode(["a red ball", "", "red"])
    assert made.features.shape == (3, 16, 256) and made.lengths.tolist() == [4, 1, 2]
    np.testing.assert_array_equal(made.features[0, 1], made.features[2, 0])
    tokens = words.tokenizer(["a red ball"])[0]
    np.testing.assert_array_equal(made.features[0, :4], words.embeddings[tokens])


def test_words_of_one_kind_are_near(words):
    def vector(word):
        features = words.encode([word]).features[0, 0]
        return features / np.linalg.norm(features)

    dog, animal, seven = map(vector, ("dog", "animal", "seven"))
    assert dog @ animal > 0.6 and abs(dog @ seven) < 0.1


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'mvar_jax\[words\]'"):
        load_text_encoder("wordllama")
