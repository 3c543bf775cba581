"""Prompts to features, by a T5."""

import jax
import numpy as np
import pytest

from mvar_jax.text import TextEncoder, t5_encoder
from mvar_jax.text.t5 import T5
from tests.text.builders import CONFIG, SENTENCES

PROMPTS = [SENTENCES[0], "", " ".join(SENTENCES[:4]), "a", SENTENCES[1]]


def test_it_is_a_text_encoder(encoder):
    assert isinstance(encoder, TextEncoder)
    assert (encoder.width, encoder.max_length, encoder.name) == (CONFIG.width, 512, "tiny-t5")


def test_features_are_those_of_the_model(encoder):
    made = encoder.encode(PROMPTS)
    tokens = encoder.tokenizer(PROMPTS)
    assert made.lengths.tolist() == [len(row) for row in tokens]
    assert made.features.shape == (5, 128, CONFIG.width) and made.features.dtype == np.float32
    for row, features in zip(tokens, made.features):
        inputs = row[None], np.ones((1, len(row)), bool)
        expected = jax.jit(T5(CONFIG).apply)({"params": encoder.params}, *inputs)[0]
        np.testing.assert_allclose(features[: len(row)], expected, atol=1e-5)
        assert not features[len(row) :].any()


def test_a_prompt_does_not_depend_on_the_others(encoder, monkeypatch):
    together = encoder.encode(PROMPTS)
    alone = [encoder.encode([prompt]) for prompt in PROMPTS]
    largest = np.abs(together.features).max()
    for place, one in enumerate(alone):
        assert one.mask.shape[1] in (16, 32, 64, 128)
        np.testing.assert_allclose(
            one.features[0, : one.lengths[0]],
            together.features[place, : one.lengths[0]],
            rtol=0,
            atol=1e-6 * largest,
        )
    monkeypatch.setattr(t5_encoder, "TOKENS_AT_ONCE", 64)
    parts = encoder.encode(PROMPTS)
    np.testing.assert_array_equal(parts.mask, together.mask)
    np.testing.assert_allclose(parts.features, together.features, rtol=0, atol=1e-6 * largest)


def test_few_programs_are_compiled(encoder):
    encoder.encode(["a"] * 4)
    before = t5_encoder._apply._cache_size()
    for count in (3, 4):
        encoder.encode(["a red", "a", *["two"] * (count - 2)])
    assert t5_encoder._apply._cache_size() == before


def test_settings_of_64_bits_change_nothing(encoder):
    expected = encoder.encode(["a red ball"])
    with jax.enable_x64(True):
        jax.tree.map(np.testing.assert_array_equal, encoder.encode(["a red ball"]), expected)


def test_no_prompt_is_refused(encoder):
    with pytest.raises(ValueError, match="prompts: got none"):
        encoder.encode([])
