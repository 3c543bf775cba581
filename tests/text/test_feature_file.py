"""Features computed ahead."""

import json

import jax
import numpy as np
import pytest

from mvar_jax.text import TextEncoder, feature_file, read_features, write_features
from tests.text.builders import SENTENCES

PROMPTS = ["", *SENTENCES[:5], "ein Bär, 'quoted'\t\u2028 \"and\" ✓"]
SUMS = {"encoder_checksum": "ab" * 32}


@pytest.fixture
def stored(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_file, "PROMPTS_AT_ONCE", 3)
    done = []
    made = write_features(tmp_path / "f", encoder, iter(PROMPTS), done=done.append, **SUMS)
    assert done == [3, 3, 1] and made.prompts == 7
    return tmp_path / "f"


def test_what_was_written_is_read(encoder, stored):
    features, expected = read_features(stored, verify=True), encoder.encode(PROMPTS)
    assert features.prompts == tuple(PROMPTS) and len(features) == 7
    assert (features.name, features.width) == (encoder.name, encoder.width)
    assert features.manifest.encoder_checksum == SUMS["encoder_checksum"]
    assert isinstance(features.data, np.memmap) and not features.data.flags.writeable
    np.testing.assert_array_equal(features.lengths, expected.lengths)
    largest = np.abs(expected.features).max()
    made = features.rows(range(7)).padded(expected.mask.shape[1])
    np.testing.assert_allclose(made.features, expected.features, rtol=0, atol=1e-6 * largest)
    np.testing.assert_array_equal(made.mask, expected.mask)


def test_it_is_an_encoder_of_its_prompts(stored):
    features = read_features(stored)
    assert isinstance(features, TextEncoder)
    chosen = features.encode([PROMPTS[4], ""])
    jax.tree.map(np.testing.assert_array_equal, chosen, features.rows([4, 0]))
    with pytest.raises(ValueError, match="prompts: got none"):
        features.encode([])
    with pytest.raises(ValueError, match="'a new one' is not among the 7 prompts"):
        features.encode(["a new one"])


@pytest.mark.parametrize(("dtype", "precision"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_half_the_size_costs_precision(encoder, tmp_path, dtype, precision):
    write_features(tmp_path / "f", encoder, PROMPTS, dtype=dtype, **SUMS)
    features, expected = read_features(tmp_path / "f"), encoder.encode(PROMPTS)
    size = (tmp_path / "f" / "features.bin").stat().st_size
    assert size == 2 * encoder.width * int(expected.lengths.sum())
    made = features.rows(range(7))
    assert made.features.dtype == np.float32
    np.testing.assert_allclose(made.tokens(), expected.tokens(), rtol=precision, atol=1e-5)


def test_nothing_is_left_of_what_fails(encoder, tmp_path):
    for prompts in ([], ["a", 3]):
        with pytest.raises(Exception, match="prompts"):
            write_features(tmp_path / "f", encoder, prompts)
        assert not list(tmp_path.iterdir())
    (tmp_path / "f").mkdir()
    with pytest.raises(ValueError, match="exists, expected a new folder"):
        write_features(tmp_path / "f", encoder, ["a"])


def test_damage_is_named(stored):
    def refused(word, **settings):
        with pytest.raises(ValueError, match=word):
            read_features(stored, **settings)

    data = stored / "features.bin"
    content = data.read_bytes()
    data.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    read_features(stored)
    refused("were changed since", verify=True)
    data.write_bytes(content[:-4])
    refused("do not fit its manifest")
    data.write_bytes(content)
    texts = stored / "prompts.jsonl"
    lines = texts.read_text()
    for broken in (lines[:-5], lines.replace('"tokens": ', '"tokens": -'), "[]\n"):
        texts.write_text(broken)
        refused("damaged|do not fit")
    texts.write_text(lines)
    manifest = stored / "manifest.json"
    about = json.loads(manifest.read_text())
    for change in ({"format": "other"}, {"width": 0}, {"dtype": "object"}, {"more": 1}):
        manifest.write_text(json.dumps(about | change))
        refused("not a folder that python -m mvar_jax.encode_text wrote")
