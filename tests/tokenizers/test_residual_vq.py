import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.tokenizers.residual_vq import ResidualQuantizer, shared_index, small_codes
from tests.reference import GOLDEN
from tests.tokenizers.weights import recipe_params


def test_the_table_of_shared_convolutions_is_the_reference():
    table = json.loads((GOLDEN / "phi_index.json").read_text())
    for convolutions, rows in table["partially_shared"].items():
        for scales, expected in rows.items():
            assert shared_index(int(convolutions), int(scales)) == tuple(expected)
    assert shared_index(4, 10) == (0, 0, 1, 1, 1, 2, 2, 3, 3, 3)
    assert shared_index(4, 1) == (0,)


def test_codes_add_up_linearly_so_mixtures_pass(tiny_config):
    quantizer = ResidualQuantizer(tiny_config)
    variables = {"params": recipe_params(tiny_config)["quantizer"]}
    left, right = jax.random.normal(jax.random.key(1), (2, 5, 4, 4))
    running = quantizer.apply(variables, 5, tiny_config.schedule, method="start")

    def add(codes):
        return quantizer.apply(
            variables, running, codes, 1, tiny_config.schedule, method="accumulate"
        )

    for mixed, a, b in zip(add(0.25 * left + 0.75 * right), add(left), add(right)):
        np.testing.assert_allclose(mixed, 0.25 * a + 0.75 * b, atol=1e-6)
    assert add(left)[1].shape == (5, 6, 4)


def test_a_mixture_of_one_code_is_that_code(tiny_config):
    quantizer = ResidualQuantizer(tiny_config)
    variables = {"params": recipe_params(tiny_config)["quantizer"]}
    tokens = jnp.arange(16).reshape(2, 8)
    one_hot = jax.nn.one_hot(tokens, 16)
    codes = quantizer.apply(variables, one_hot, method="mix")
    np.testing.assert_allclose(codes, quantizer.apply(variables, tokens, method="embed"))


def test_codes_start_close_together():
    codes = small_codes(jax.random.key(0), (64, 4))
    assert codes.shape == (64, 4) and codes.dtype == jnp.float32
    assert 0.9 / 64 < np.abs(codes).max() <= 1 / 64
    assert codes.min() < 0 < codes.max()


def test_loss_gradients_stop_where_they_should(tiny_config):
    config = dataclasses.replace(tiny_config, commitment=0.5)
    quantizer = ResidualQuantizer(config)
    features = jax.random.normal(jax.random.key(1), (2, 2, 3, 4))
    variables = {"params": recipe_params(config)["quantizer"]}

    sums = [
        s.running for s in quantizer.apply(variables, features, config.schedule, method="pyramid")
    ]
    pull = jax.grad(lambda f: quantizer.apply(variables, f, config.schedule)[1])(features)
    by_hand = sum(0.5 * 2 * (features - total) / features.size for total in sums) / len(sums)
    np.testing.assert_allclose(pull, by_hand, atol=1e-7)

    through = jax.grad(lambda f: jnp.sum(quantizer.apply(variables, f, config.schedule)[0] ** 2))(
        features
    )
    np.testing.assert_allclose(through, 2 * sums[-1], atol=1e-5)


def test_a_wrong_number_of_codes_is_refused(tiny_config):
    quantizer = ResidualQuantizer(tiny_config)
    variables = {"params": recipe_params(tiny_config)["quantizer"]}
    with pytest.raises(ValueError, match=r"tokens: got 6 at scale 1, expected 2 x 2"):
        quantizer.apply(
            variables,
            jnp.zeros((1, 2, 3, 4)),
            jnp.zeros((1, 6, 4)),
            1,
            tiny_config.schedule,
            method="accumulate",
        )
