"""Bits are categorical tokens of two values: loss, draws, filters and mixtures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.tokenizers import BitTokens

SPACE = BitTokens(3)
LOGITS = 2 * jax.random.normal(jax.random.key(0), (2, 5, 6))
TARGETS = jax.random.bernoulli(jax.random.key(1), shape=(2, 5, 3)).astype(jnp.uint8)


def test_the_second_of_a_pair_is_the_score_of_one():
    logits = jnp.array([[[0.0, 5.0, 5.0, 0.0, 0.0, 5.0]]])
    zeros = jnp.zeros_like(logits)
    for bits, accuracy in (([1, 0, 1], 1.0), ([1, 1, 1], 2 / 3), ([0, 1, 0], 0.0)):
        found = SPACE.accuracy(logits, jnp.array([[bits]], jnp.uint8))
        np.testing.assert_allclose(found, [[accuracy]], rtol=1e-6)
    drawn = SPACE.sample(logits, zeros)
    assert drawn.tolist() == [[[1, 0, 1]]] and drawn.dtype == jnp.uint8
    assert SPACE.logits == 6 and hash(SPACE) == hash(BitTokens(3))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_loss_is_the_mean_cross_entropy_of_the_bits(smoothing, dtype):
    logits = LOGITS.astype(dtype)
    loss = SPACE.loss(logits, TARGETS, smoothing)
    assert loss.shape == (2, 5) and loss.dtype == jnp.float32

    score = np.float64(logits.astype(jnp.float32)).reshape(2, 5, 3, 2)
    one = 1 / (1 + np.exp(score[..., 0] - score[..., 1]))
    wanted = (1 - smoothing) * np.asarray(TARGETS) + smoothing / 2
    expected = -(wanted * np.log(one) + (1 - wanted) * np.log(1 - one)).mean(axis=-1)
    np.testing.assert_allclose(loss, expected, atol=1e-6)


def kept(logits, top_k, top_p):
    return np.isfinite(BitTokens(1).filter(jnp.array([[logits]]), top_k, top_p))[0, 0].tolist()


def test_filters_act_on_every_bit_by_itself():
    likely = [0.0, float(np.log(9))]  # nine tenths for 1
    assert kept(likely, 0, 0.0) == kept(likely, 900, 1.0) == kept(likely, 2, 0.91) == [True, True]
    assert kept(likely, 1, 0.0) == kept(likely, 0, 0.89) == kept(likely, 2, 0.1) == [False, True]
    assert kept([1.0, 1.0], 1, 0.6) == [True, True]  # equally likely
    both = BitTokens(2).filter(jnp.array([[[*likely, 0.0, 0.0]]]), 0, 0.5)
    assert np.isfinite(both).tolist() == [[[False, True, True, True]]]


def test_draws_follow_the_probabilities_that_are_left():
    """20000 draws a bit; bounds are five standard errors."""
    logits = jnp.array([0.0, 1.0, -jnp.inf, 0.0, 2.0, 0.0])
    keys = jax.random.split(jax.random.key(0), 20)
    noise = jax.jit(SPACE.noise, static_argnums=(1, 2))(keys, 3, 1000)
    bits = SPACE.sample(jnp.broadcast_to(logits, noise.shape), noise)
    expected = np.array([1 / (1 + np.exp(-1)), 1.0, 1 / (1 + np.exp(2))])
    error = np.sqrt(expected * (1 - expected) / 20_000)
    assert np.all(np.abs(np.mean(bits, axis=(0, 1)) - expected) <= 5 * error)


def test_a_cold_mixture_is_what_is_drawn():
    keys = jax.random.split(jax.random.key(2), 2)
    noise = SPACE.noise(keys, 0, 5)
    weights = SPACE.mixture(LOGITS, noise, 1.0)
    drawn = SPACE.sample(2 * LOGITS, noise)
    assert weights.shape == drawn.shape == (2, 5, 3)
    np.testing.assert_array_equal(weights > 0.5, drawn)
    score = np.float64(LOGITS + noise).reshape(2, 5, 3, 2)
    expected = 1 / (1 + np.exp((score[..., 0] - score[..., 1]) / 0.27))
    np.testing.assert_allclose(SPACE.mixture(LOGITS, noise, 0.0), expected, atol=1e-5)


def test_probabilities_of_both_values_of_a_bit_add_up_to_one():
    logs = SPACE.log_probabilities(LOGITS)
    pairs = np.exp(np.asarray(logs)).reshape(2, 5, 3, 2)
    np.testing.assert_allclose(pairs.sum(-1), 1, rtol=1e-6)
    chosen = np.take_along_axis(np.log(pairs), np.asarray(TARGETS, int)[..., None], -1)
    np.testing.assert_allclose(-chosen[..., 0].mean(-1), SPACE.loss(LOGITS, TARGETS), rtol=1e-5)
