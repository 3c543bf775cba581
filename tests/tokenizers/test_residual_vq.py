import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from mvar_jax.config import TokenizerConfig
from mvar_jax.convert.names import read_params
from mvar_jax.convert.tokenizer_names import tokenizer_entries
from mvar_jax.tokenizers.residual_vq import ResidualQuantizer, shared_index, small_codes
from tests.reference import GOLDEN, load_golden, recipe_weights
from tests.tokenizers.weights import recipe_params

QUANTIZER = load_golden("comp_quantizer")


def quantizer_and_params(sides, code, vocabulary, **options):
    """A quantizer with the weights of the reference, and no autoencoder around it."""
    config = TokenizerConfig(
        image_size=(sides[-1], sides[-1]),
        scales=tuple((side, side) for side in sides),
        vocabulary=vocabulary,
        code_channels=code,
        channel_multipliers=(1,),
        **options,
    )
    entries = [e for e in tokenizer_entries(config) if e.official.startswith("quantize.")]
    weights = recipe_weights({entry.official: entry.official_shape for entry in entries})
    params = jax.tree.map(jnp.asarray, read_params(entries, weights)["quantizer"])
    return ResidualQuantizer(config), {"params": params}


@pytest.mark.parametrize(
    "variant,options",
    [
        ("plain", {}),
        ("znorm", {"normalize_codes": True}),
        ("shared", {"shared_convolutions": 1}),
        ("nonshared", {"shared_convolutions": 0}),
        ("partial3", {"shared_convolutions": 3}),
        ("altpn", {}),
    ],
)
def test_every_variant_is_the_reference(variant, options):
    about = QUANTIZER.config["config"]
    sides = about["alt_patch_nums" if variant == "altpn" else "patch_nums"]
    quantizer, params = quantizer_and_params(sides, about["channels"], about["V"], **options)
    features = jnp.asarray(rearrange(QUANTIZER["f"], "b c h w -> b h w c"))

    pyramid = quantizer.apply(params, features, method="pyramid")
    for k, scale in enumerate(pyramid):
        QUANTIZER.check(f"{variant}_idx_s{k}", scale.tokens)
    QUANTIZER.check(f"{variant}_f_hat", rearrange(pyramid[-1].running, "b h w c -> b c h w"))
    if variant != "altpn":
        inputs = jnp.concatenate([scale.next_input for scale in pyramid[:-1]], axis=1)
        QUANTIZER.check(f"{variant}_var_input", inputs)
        quantized, loss = quantizer.apply(params, features)
        QUANTIZER.check(f"{variant}_vq_loss", loss)
        np.testing.assert_allclose(quantized, pyramid[-1].running, atol=1e-6)


@pytest.mark.parametrize("scale", range(4))
def test_residual_convolution_is_the_reference(scale):
    golden = load_golden("comp_phi")
    quantizer, params = quantizer_and_params((16, 16, 16, 16), golden["x"].shape[1], 16)
    codes = rearrange(golden["x"], "b c h w -> b (h w) c")
    running = jnp.zeros((2, 16, 16, 32))
    total, _ = quantizer.apply(params, running, jnp.asarray(codes), scale, method="accumulate")
    golden.check(f"out_{scale}", rearrange(total, "b h w c -> b c h w"))


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
    running = quantizer.apply(variables, 5, method="start")

    def add(codes):
        return quantizer.apply(variables, running, codes, 1, method="accumulate")

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

    sums = [s.running for s in quantizer.apply(variables, features, method="pyramid")]
    pull = jax.grad(lambda f: quantizer.apply(variables, f)[1])(features)
    by_hand = sum(0.5 * 2 * (features - total) / features.size for total in sums) / len(sums)
    np.testing.assert_allclose(pull, by_hand, atol=1e-7)

    through = jax.grad(lambda f: jnp.sum(quantizer.apply(variables, f)[0] ** 2))(features)
    np.testing.assert_allclose(through, 2 * sums[-1], atol=1e-5)


def test_a_wrong_number_of_codes_is_refused(tiny_config):
    quantizer = ResidualQuantizer(tiny_config)
    variables = {"params": recipe_params(tiny_config)["quantizer"]}
    with pytest.raises(ValueError, match=r"tokens: got 6 at scale 1, expected 2 x 2"):
        quantizer.apply(
            variables, jnp.zeros((1, 2, 3, 4)), jnp.zeros((1, 6, 4)), 1, method="accumulate"
        )
