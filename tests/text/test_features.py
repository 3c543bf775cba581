"""Features of prompts: padding, joining, rows."""

import jax
import numpy as np
import pytest

from mvar_jax.text import TextFeatures
from mvar_jax.text.features import LENGTHS, join, pack, padded_length

ROWS = [np.arange(2.0 * n).reshape(n, 2) + 1 for n in (3, 1, 5)]


def test_prompts_are_packed_with_their_tokens_first():
    packed = pack(ROWS, 6, 2)
    assert packed.features.shape == (3, 6, 2) and packed.features.dtype == np.float32
    assert packed.mask.dtype == bool and packed.width == 2
    assert packed.lengths.tolist() == [3, 1, 5]
    for row, features, mask in zip(ROWS, packed.features, packed.mask):
        np.testing.assert_array_equal(features[: len(row)], row)
        assert not features[len(row) :].any() and mask[: len(row)].all()
    np.testing.assert_array_equal(packed.tokens(), np.concatenate(ROWS))


def test_padding_joining_and_rows_keep_the_tokens():
    packed = pack(ROWS, 6, 2)
    jax.tree.map(np.testing.assert_array_equal, packed.padded(9), pack(ROWS, 9, 2))
    jax.tree.map(np.testing.assert_array_equal, packed.padded(5), pack(ROWS, 5, 2))
    joined = join([packed.rows(slice(0, 1)).padded(3), packed.rows(np.array([1, 2]))])
    jax.tree.map(np.testing.assert_array_equal, joined, packed)
    on_device = jax.tree.map(jax.numpy.asarray, packed)
    assert isinstance(on_device, TextFeatures) and on_device.lengths.tolist() == [3, 1, 5]


def test_what_does_not_fit_is_refused():
    packed = pack(ROWS, 6, 2)
    with pytest.raises(ValueError, match="length: got 4, expected at least the 5 tokens"):
        packed.padded(4)
    other = pack([np.ones((1, 3))], 6, 3)
    for parts in ([packed, other], []):
        with pytest.raises(ValueError, match="parts: got the widths"):
            join(parts)


def test_lengths_are_few():
    assert [padded_length(n) for n in (1, 16, 17, 200, 512)] == [16, 16, 32, 256, 512]
    assert padded_length(600) == 600 and LENGTHS[-1] == 512
