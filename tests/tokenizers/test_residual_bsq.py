"""The residual quantizer of bits: what it sums, flips and lets gradients through."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.config import TokenizerConfig
from mvar_jax.ops.noise import image_keys
from mvar_jax.tokenizers.residual_bsq import BinaryQuantizer

KEYS = image_keys(0, np.arange(3))


def features_of(config, batch=3):
    quantizer = BinaryQuantizer(config)
    shape = quantizer.start(batch, config.schedule).shape
    return quantizer, jax.random.normal(jax.random.key(1), shape)


def test_a_token_folds_the_positions_that_it_covers():
    config = TokenizerConfig(
        quantizer="bsq", image_size=(64, 96), scales=((2, 3),), patch=2, code_channels=5
    )
    quantizer, maps = features_of(config)
    tokens = quantizer.fold(maps)
    assert tokens.shape == (3, 6, 20) and config.token_channels == 20
    np.testing.assert_array_equal(quantizer.unfold(tokens, (2, 3)), maps)
    for channel, y, x in ((0, 0, 1), (3, 1, 0), (4, 1, 1)):
        ours = tokens[:, 4, channel * 4 + 2 * y + x]  # row 1, column 1
        np.testing.assert_array_equal(ours, maps[:, 2 + y, 2 + x, channel])


def test_codes_of_tokens_add_up_to_the_quantized_map(bsq_config):
    quantizer, features = features_of(bsq_config)
    schedule = bsq_config.schedule
    quantized = quantizer(features, schedule)[0]
    running = quantizer.start(3, schedule)
    for scale, of in enumerate(quantizer.pyramid(features, schedule)):
        assert of.tokens.shape == (3, schedule.lengths[scale], bsq_config.token_channels)
        assert of.tokens.dtype == jnp.uint8
        codes = quantizer.embed(of.tokens)
        np.testing.assert_allclose(jnp.abs(codes), 6**-0.5, rtol=1e-6)
        running, following = quantizer.accumulate(running, codes, scale, schedule)
        np.testing.assert_array_equal(running, of.running)
        assert (following is None) == (scale == 2)
    np.testing.assert_array_equal(running, quantized)


def test_zeros_are_zero_bits(bsq_config):
    quantizer, features = features_of(bsq_config)
    scale, *_ = quantizer.pyramid(jnp.zeros_like(features), bsq_config.schedule)
    np.testing.assert_array_equal(scale.tokens, 0)


def test_gradients_pass_straight_through(bsq_config):
    """Of every scale that of the divided residual; what is subtracted is a constant."""
    config = dataclasses.replace(bsq_config, scales=((2, 3),), commitment=0.5)
    quantizer, features = features_of(config)

    def ours(x):
        return jnp.sum(jnp.sin(quantizer(x, config.schedule)[0]))

    def units(x):
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

    quantized, pull = quantizer(features, config.schedule)[0], jax.grad(ours)(features)
    (expected,) = jax.vjp(units, features)[1](jnp.cos(quantized))
    np.testing.assert_allclose(pull, expected, atol=1e-6)
    loss, by_loss = jax.value_and_grad(lambda x: quantizer(x, config.schedule)[1])(features)
    np.testing.assert_allclose(loss, 0.5 * np.mean((quantized - features) ** 2), rtol=1e-6)
    np.testing.assert_allclose(by_loss, (features - quantized) / features.size, atol=1e-8)


def test_flips_go_into_the_sum_and_later_bits_correct_them(bsq_config):
    quantizer, features = features_of(bsq_config)
    schedule = bsq_config.schedule
    clean = quantizer.pyramid(features, schedule)
    flips = [jnp.ones(clean[0].tokens.shape, bool)]
    noisy = quantizer.pyramid(features, schedule, flips)
    np.testing.assert_array_equal(noisy[0].tokens, clean[0].tokens)
    np.testing.assert_allclose(noisy[0].running, -clean[0].running)
    assert np.mean(noisy[1].tokens != clean[1].tokens) > 0.1
    for scale in (1, 2):  # the errors of the first scale are corrected
        before, after = (jnp.mean((features - noisy[k].running) ** 2) for k in (scale - 1, scale))
        assert after < before


def test_flips_belong_to_the_image(bsq_config):
    quantizer, schedule = BinaryQuantizer(bsq_config), bsq_config.schedule
    whole, part = (quantizer.draw_flips(keys, schedule) for keys in (KEYS, KEYS[1:2]))
    assert [flip.shape[1:] for flip in whole] == [
        (length, bsq_config.token_channels) for length in schedule.lengths
    ]
    for one, other in zip(whole, part):
        np.testing.assert_array_equal(one[1:2], other)


def test_rates_of_flips_are_uniform_over_whole_percents():
    """4000 images of 784 bits; bounds are five standard errors."""
    config = TokenizerConfig(
        quantizer="bsq",
        image_size=(112, 112),
        scales=((1, 1), (7, 7)),
        code_channels=16,
        flip_rate=0.3,
        flip_scales=2,
    )
    draw = jax.jit(lambda keys: BinaryQuantizer(config).draw_flips(keys, config.schedule))
    flips = draw(image_keys(0, np.arange(4000)))
    shares = np.mean(flips[1], axis=(1, 2))
    assert abs(shares.mean() - 0.15) < 5 * 0.0894 / np.sqrt(4000)
    assert shares.min() == 0 and 0.25 < shares.max() < 0.4
    assert 0.7 / 31 < np.mean(shares == 0) < 1.4 / 31  # as likely as every other rate
    first = np.mean(flips[0], axis=(1, 2))
    assert abs(np.corrcoef(first, shares)[0, 1]) < 5 / np.sqrt(4000)


@pytest.mark.parametrize(("changes", "count"), [({"flip_scales": 2}, 2), ({"flip_scales": 0}, 0)])
def test_only_the_first_scales_have_flips(bsq_config, changes, count):
    config = dataclasses.replace(bsq_config, **changes)
    assert len(BinaryQuantizer(config).draw_flips(KEYS, config.schedule)) == count


def test_a_wrong_number_of_codes_is_refused(bsq_config):
    quantizer, features = features_of(bsq_config)
    codes = jnp.zeros((3, 6, bsq_config.token_channels))
    with pytest.raises(ValueError, match=r"tokens: got 6 at scale 1, expected 2 x 2"):
        quantizer.accumulate(features, codes, 1, bsq_config.schedule)
