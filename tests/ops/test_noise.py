"""Noise belongs to an image, a scale and a position."""

import functools

import jax
import numpy as np

from mvar_jax.ops.noise import token_gumbel, token_uniform

KEYS = jax.random.split(jax.random.key(0), 3)
draw = functools.partial(jax.jit, static_argnums=(1, 2, 3))(token_gumbel)


def test_a_token_has_its_noise_wherever_it_is_drawn():
    """In any batch, at any place in it, and however many tokens follow."""
    noise = draw(KEYS, 2, 5, 7)
    assert noise.shape == (3, 5, 7) and noise.dtype == np.float32
    np.testing.assert_array_equal(draw(KEYS[::-1], 2, 5, 7)[::-1], noise)
    np.testing.assert_array_equal(draw(KEYS[1:2], 2, 3, 7)[0], noise[1, :3])


def test_scales_positions_and_keys_differ():
    noise = np.stack([draw(KEYS, scale, 5, 7) for scale in (2, 3)])
    assert len(np.unique(noise)) == noise.size


def test_uniform_numbers_belong_to_tokens_too():
    whole, part = token_uniform(KEYS, 2, 5, 7), token_uniform(KEYS[1:2], 2, 3, 7)
    np.testing.assert_array_equal(part[0], whole[1, :3])
    assert whole.dtype == np.float32 and 0 <= whole.min() < 0.1 and 0.9 < whole.max() < 1


def test_it_is_gumbel():
    """65536 draws; bounds are five standard errors of the mean and of the variance."""
    noise = np.float64(draw(KEYS[:1], 0, 64, 1024))
    variance = np.pi**2 / 6
    assert abs(noise.mean() - np.euler_gamma) < 5 * np.sqrt(variance / noise.size)
    assert abs(noise.var() - variance) < 5 * variance * np.sqrt(4.4 / noise.size)
    # exp(-exp(-g)) is uniform: every tenth gets its share
    shares = np.histogram(np.exp(-np.exp(-noise)), bins=10, range=(0, 1))[0] / noise.size
    assert np.abs(shares - 0.1).max() < 5 * np.sqrt(0.09 / noise.size)
