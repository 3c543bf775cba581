import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.evaluation.metrics import codebook_usage, exact_copies, usage_of_counts


def pyramid(*images):
    tokens = np.array(images, np.int32)
    return [tokens[:, :1], tokens[:, 1:5]]


def test_copies_agree_at_every_scale():
    training = pyramid([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])
    samples = pyramid([6, 7, 8, 9, 10], [1, 7, 8, 9, 10], [1, 2, 3, 4, 6], [6, 7, 8, 9, 10])
    assert exact_copies(samples, training) == 2
    assert exact_copies([scale[1:3] for scale in samples], training) == 0


def test_copies_do_not_depend_on_the_type_of_integer_and_may_be_bits():
    training = pyramid([1, 2, 3, 4, 5])
    assert exact_copies([jnp.asarray(scale) for scale in training], training) == 1
    bits = [np.ones((2, 1, 3), np.uint8), np.zeros((2, 4, 3), np.uint8)]
    assert exact_copies(bits, [scale[:1] for scale in bits]) == 2


def test_pyramids_of_other_scales_cannot_be_compared():
    with pytest.raises(ValueError, match=r"\[\(1,\), \(4,\)\] and training images of \[\(1,\)\]"):
        exact_copies(pyramid([1, 2, 3, 4, 5]), pyramid([1, 2, 3, 4, 5])[:1])


def test_usage_of_bits_is_that_of_their_two_values():
    """One scale whose bits are even and constant, one whose bits are even."""
    usage = usage_of_counts(np.array([[[5, 5], [10, 0]], [[5, 5], [5, 5]]]))
    assert usage[0] == pytest.approx({"share": 0.75, "perplexity": 2**0.5})
    assert usage[1] == pytest.approx({"share": 1.0, "perplexity": 2.0})


def test_usage_of_a_uniform_a_single_and_a_skewed_code():
    uniform = np.arange(8, dtype=np.int32).reshape(2, 4)
    single = np.full((2, 1), 5, np.int32)
    skewed = np.array([[0, 0], [0, 1]], np.int32)
    usage = codebook_usage([uniform, single, skewed], 16)
    assert [scale["share"] for scale in usage] == [8 / 16, 1 / 16, 2 / 16]
    assert usage[0]["perplexity"] == pytest.approx(8)
    assert usage[1]["perplexity"] == pytest.approx(1)
    assert usage[2]["perplexity"] == pytest.approx(4 / 3**0.75)


def test_tokens_outside_of_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match="tokens from 0 to 4, expected 0 to 3"):
        codebook_usage([np.array([[0, 4]], np.int32)], 4)
    with pytest.raises(ValueError, match="no tokens"):
        codebook_usage([np.zeros((0, 4), np.int32)], 4)
