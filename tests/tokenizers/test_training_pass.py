"""The pass of a tokenizer's training: its scales, and images of a depth of their own."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.quantize import nearest_code
from mvar_jax.tokenizers import build_tokenizer
from mvar_jax.tokenizers.data_start import codes_from_features
from tests.tokenizers.weights import bitwise_config, recipe_params

DEPTH = jnp.array([1, 3, 2])


@pytest.fixture(params=["vq", "bsq"])
def trained(request, tiny_config):
    """A tokenizer with parameters, and images."""
    config = tiny_config if request.param == "vq" else bitwise_config(1)
    images = jax.random.uniform(jax.random.key(3), (3, 16, 24, 3), minval=-1)
    return build_tokenizer(config), {"params": recipe_params(config)}, images


def passed(trained, depth=None):
    tokenizer, variables, images = trained
    return tokenizer.apply(variables, images, depth, method="training_pass")


def test_all_scales_are_the_whole_pass(trained):
    whole, deepest = passed(trained), passed(trained, jnp.full(3, 3))
    np.testing.assert_allclose(deepest.reconstruction, whole.reconstruction, atol=1e-5)
    np.testing.assert_allclose(deepest.quantizer_loss, whole.quantizer_loss, rtol=1e-5)


def test_a_depth_decodes_the_sum_of_its_scales(trained):
    tokenizer, variables, images = trained
    made, bound = passed(trained, DEPTH), tokenizer.bind(variables)
    running = bound.start(len(images))
    for scale, quantized in enumerate(made.scales):
        running, _ = bound.accumulate(running, bound.embed(quantized.tokens), scale)
        np.testing.assert_allclose(running, quantized.running, atol=1e-5)
        (image,) = np.flatnonzero(DEPTH == scale + 1)
        expected = bound.decode(running)[image]
        np.testing.assert_allclose(np.clip(made.reconstruction[image], -1, 1), expected, atol=1e-4)


def test_the_loss_is_of_the_kept_scales(trained):
    tokenizer, variables, images = trained
    made, config = passed(trained, DEPTH), tokenizer.config
    features = tokenizer.apply(variables, images, method="encode")
    weight = config.commitment + (config.quantizer == "vq")
    squares = [weight * np.mean((s.running - features) ** 2, axis=(1, 2, 3)) for s in made.scales]
    each = [np.mean([squares[k][i] for k in range(kept)]) for i, kept in enumerate(DEPTH)]
    np.testing.assert_allclose(made.quantizer_loss, np.mean(each), rtol=1e-5)


def test_gradients_of_a_depth_are_finite_and_reach_the_encoder(trained):
    tokenizer, variables, images = trained

    def loss(variables):
        made = tokenizer.apply(variables, images, DEPTH, method="training_pass")
        return jnp.mean((made.reconstruction - images) ** 2) + made.quantizer_loss

    gradient = jax.jit(jax.grad(loss))(variables)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    assert jnp.abs(gradient["params"]["encoder"]["conv_in"]["kernel"]).max() > 0


def test_codes_from_features_are_what_scales_quantize(tiny_config):
    tokenizer = build_tokenizer(tiny_config)
    bound = tokenizer.bind({"params": recipe_params(tiny_config)})
    features = jax.random.normal(jax.random.key(1), (4, 2, 3, 4))
    key = jax.random.key(0)
    codes = codes_from_features(bound.quantizer, features, tiny_config.schedule, key)
    assert codes.shape == (16, 4)
    # The first scale has four vectors, the means of the images: each is a code.
    means = features.mean(axis=(1, 2))
    np.testing.assert_allclose(codes[nearest_code(means[None], codes)[0]], means, atol=1e-5)
    np.testing.assert_array_equal(codes, bound.codes_from_features(features, key))


def test_fewer_codes_than_scales(tiny_config):
    config = replace(tiny_config, vocabulary=2)
    bound = build_tokenizer(config).bind({"params": recipe_params(config)})
    features = jax.random.normal(jax.random.key(1), (4, 2, 3, 4))
    assert bound.codes_from_features(features, jax.random.key(0)).shape == (2, 4)


def test_in_bfloat16_maps_are_near_and_everything_outside_is_float32(trained):
    tokenizer, variables, images = trained
    rounded = build_tokenizer(replace(tokenizer.config, compute_dtype="bfloat16"))
    exact, made = passed(trained), passed((rounded, variables, images))
    assert {leaf.dtype for leaf in jax.tree.leaves(made.reconstruction)} == {jnp.dtype("float32")}

    def of_features(kind):
        return kind.apply(variables, images, method="encode")

    near, features = of_features(rounded), of_features(tokenizer)
    assert near.dtype == jnp.float32
    error = jnp.linalg.norm(near - features) / jnp.linalg.norm(features)
    assert 1e-5 < error < 0.02  # it rounds to 8 bits
    decoded = rounded.apply(variables, exact.scales[-1].running, method="decode")
    expected = tokenizer.apply(variables, exact.scales[-1].running, method="decode")
    assert 1e-5 < jnp.max(jnp.abs(decoded - expected)) < 0.1

    def loss(params):
        made = rounded.apply({"params": params}, images, method="training_pass")
        return jnp.mean((made.reconstruction - images) ** 2) + made.quantizer_loss

    program = str(jax.make_jaxpr(loss)(variables["params"]))
    convolved = [line for line in program.splitlines() if "conv_general_dilated[" in line]
    assert any("bf16[" in line for line in convolved)
    gradients = jax.grad(loss)(variables["params"])
    started = rounded.init(jax.random.key(0), images)["params"]
    for tree in (gradients, started):
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    plain = tokenizer.init(jax.random.key(0), images)["params"]
    assert all(map(np.array_equal, jax.tree.leaves(started), jax.tree.leaves(plain)))
