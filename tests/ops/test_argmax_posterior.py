"""Noise that explains a draw: the draw comes back, and the noise is distributed as any."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mvar_jax.ops.argmax_posterior import MARGIN, argmax_posterior
from mvar_jax.ops.noise import image_keys, token_gumbel

IMAGES, TOKENS, VOCABULARY = 20, 1000, 8
LOGITS = jnp.array([0.0, -1.0, 1.5, -6.0, 0.5, -3.0, 1.0, 1.0])


def gumbel(seed):
    return token_gumbel(image_keys(seed, np.arange(IMAGES)), 0, TOKENS, VOCABULARY)


def test_a_draw_and_then_its_noise_is_as_noise_alone():
    """Kolmogorov-Smirnov of 20000 draws a code; p below 1e-3 has a chance of 1% for the eight."""
    first = gumbel(0)
    drawn = jnp.argmax(LOGITS + first, axis=-1)
    logits = jnp.broadcast_to(LOGITS, first.shape)
    noise = np.asarray(argmax_posterior(logits, gumbel(1), drawn)).reshape(-1, VOCABULARY)
    for code in range(VOCABULARY):
        assert stats.kstest(noise[:, code], "gumbel_r").pvalue > 1e-3
    correlation = np.corrcoef(noise, rowvar=False) - np.eye(VOCABULARY)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(noise))


def test_one_code_has_noise_of_the_posterior():
    """Of many draws of a rare code, its noise and that of the likeliest: two samples, KS."""
    first, rare = gumbel(2), 1
    drawn = jnp.argmax(LOGITS + first, axis=-1)
    accepted = np.asarray(first)[np.asarray(drawn) == rare]
    always = jnp.full(first.shape[:2], rare)
    logits = jnp.broadcast_to(LOGITS, first.shape)
    found = np.asarray(argmax_posterior(logits, gumbel(3), always)).reshape(-1, VOCABULARY)
    for code in (rare, 2, 3):
        assert stats.ks_2samp(accepted[:, code], found[:, code]).pvalue > 1e-3


def test_any_code_comes_back_by_a_margin_however_unlikely():
    logits = 20 * jax.random.normal(jax.random.key(0), (IMAGES, TOKENS, VOCABULARY))
    drawn = jax.random.randint(jax.random.key(1), (IMAGES, TOKENS), 0, VOCABULARY)
    noise = argmax_posterior(logits, gumbel(4), drawn)
    assert noise.dtype == jnp.float32 and bool(jnp.isfinite(noise).all())
    largest, second = np.sort(np.asarray(logits + noise), axis=-1)[..., :-3:-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(jnp.argmax(logits + noise, axis=-1), drawn)
    assert (largest - second).min() > 0.9 * MARGIN
