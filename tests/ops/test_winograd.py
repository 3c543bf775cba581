"""Convolutions by fewer products: the same values and gradients, and where they are chosen."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops import winograd as module
from mvar_jax.ops.parts import in_one_part
from mvar_jax.ops.winograd import convolve, winograd
from mvar_jax.tokenizers.layers import ResidualBlock

FLAX = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def inputs(height, width, channels, outputs, batch=1):
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((batch, height, width, channels), np.float32)
    kernel = rng.standard_normal((3, 3, channels, outputs), np.float32)
    return jnp.asarray(maps), jnp.asarray(kernel)


def exact(maps, kernel):
    """In float64, by its definition."""
    height, width = maps.shape[1:3]
    padded = np.pad(np.asarray(maps, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        padded[:, i : i + height, j : j + width] @ np.asarray(kernel[i, j], np.float64)
        for i in range(3)
        for j in range(3)
    )


@pytest.mark.parametrize("strip", [1, 800, 4096])  # two rows, four of twenty columns, all
@pytest.mark.parametrize("size", [(2, 2), (6, 4), (12, 20)])
def test_the_same_convolution_in_strips_of_any_height(size, strip, monkeypatch):
    monkeypatch.setattr(module, "STRIP", strip)
    maps, kernel = inputs(*size, 5, 3, batch=2)
    np.testing.assert_allclose(winograd(maps, kernel), exact(maps, kernel), atol=2e-5)


def test_rounds_as_the_ordinary_one_does():
    maps, kernel = inputs(32, 32, 64, 32)
    expected = exact(maps, kernel)
    errors = [
        np.sqrt(np.mean((np.asarray(made) - expected) ** 2))
        for made in (winograd(maps, kernel), module._ordinary(maps, kernel))
    ]
    assert 0 < errors[0] < 4 * errors[1]


def test_strips_are_lower_where_there_are_more_images(monkeypatch):
    monkeypatch.setattr(module, "STRIP", 800)
    programs = [str(jax.make_jaxpr(winograd)(*inputs(12, 20, 5, 3, batch))) for batch in (1, 2, 4)]
    assert [re.findall(r"length=(\d+)", text) for text in programs] == [["2"], ["3"], ["6"]]


def test_gradients_are_the_ordinary_ones():
    maps, kernel = inputs(6, 8, 5, 3)
    weights, _ = inputs(6, 8, 3, 1)

    def gradients(function):
        return jax.grad(lambda *given: jnp.vdot(function(*given), weights), (0, 1))(maps, kernel)

    for got, expected in zip(gradients(winograd), gradients(module._ordinary)):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def uses(function, *arguments):
    """Whether a function computes by strips."""
    return "scan" in str(jax.make_jaxpr(function)(*arguments))


def test_where_it_is_chosen():
    def chosen(maps=(1, 128, 128, 160), kernel=(3, 3, 160, 160), dtype=jnp.float32, **others):
        settings = {"strides": (1, 1), "padding": "SAME"} | FLAX | others
        shapes = (jax.ShapeDtypeStruct(shape, dtype) for shape in (maps, kernel))
        return uses(lambda *given: convolve(*given, **settings), *shapes)

    assert chosen() and chosen((1, 64, 64, 320), (3, 3, 320, 160))
    assert not chosen((1, 32, 64, 160)) and not chosen((1, 129, 128, 160))
    assert not chosen(dtype=jnp.bfloat16) and not chosen(strides=(2, 2))
    assert not chosen(kernel=(1, 1, 160, 160)) and not chosen(kernel=(3, 3, 160, 3))
    assert not chosen((1, 128, 128, 64), (3, 3, 64, 160))
    assert not chosen(padding=((0, 1), (0, 1)))
    assert not chosen((1, 4, 4096, 128), (3, 3, 128, 128))  # not even two rows in a strip
    with in_one_part():  # as where a program's cost is counted
        assert not chosen()


def test_a_block_of_the_tokenizer_takes_it(monkeypatch):
    block, maps = ResidualBlock(8, 2), inputs(8, 8, 8, 1)[0]
    params = block.init(jax.random.key(0), maps)
    assert not uses(block.apply, params, maps)
    expected = block.apply(params, maps)
    monkeypatch.setattr(module, "STRIP", 128)
    monkeypatch.setattr(module, "LEAST_CHANNELS", 8)
    monkeypatch.setattr(module, "LEAST_PIXELS", 64)
    assert uses(block.apply, params, maps)
    np.testing.assert_allclose(block.apply(params, maps), expected, atol=1e-5)
