"""Attention in all its forms, its precision, and cosine attention."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from mvar_jax.ops._xla_attention import _attend_in_parts, masked_attention
from mvar_jax.ops.attention import (
    ATTENTION,
    attention,
    biased_attention,
    cosine_normalize,
)
from tests.ops.agreement import ImplementationsAgree

SCALE = 0.3
# Numbers of queries, keys and channels of a head, and whether keys are masked.
CASES = {
    "one key": (1, 1, 64, False),
    "less than a block": (9, 14, 32, False),
    "cut blocks": (33, 70, 128, False),
    "whole blocks": (32, 64, 16, False),
    "masked": (5, 77, 64, True),
}


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_queries_in_parts_change_nothing(parts):
    query, key, value = jnp.float32(np.random.default_rng(0).standard_normal((3, 2, 2, 7, 4)))
    whole = attention(query, key, value, softmax_scale=SCALE)
    mixed = _attend_in_parts(query, key, value, SCALE, None, parts)
    np.testing.assert_allclose(mixed, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("masked", [None, "keys", "pairs"])
def test_accelerators_cut_queries_but_no_pairs(masked, monkeypatch):
    rng = np.random.default_rng(0)
    query = jnp.float32(rng.standard_normal((2, 2, 5, 4)))
    key, value = jnp.float32(rng.standard_normal((2, 2, 2, 7, 4)))
    keys = jnp.asarray(np.arange(7) < np.array([[3], [7]]))[:, None, None]
    mask = {"keys": keys, "pairs": np.tri(5, 7, 2, bool)[None, None]}.get(masked)

    def run(*given):
        return masked_attention(*given, softmax_scale=SCALE, mask=mask)

    gradients = jax.grad(lambda *given: jnp.sin(run(*given)).sum(), (0, 1, 2))
    expected = gradients(query, key, value)
    monkeypatch.setattr("mvar_jax.ops._xla_attention.platform", lambda: "tpu")
    monkeypatch.setattr("mvar_jax.ops._xla_attention.LOGITS_AT_ONCE", 14)
    cut = "scan" in str(jax.make_jaxpr(run)(query, key, value))
    assert cut == (masked != "pairs")
    for got, other in zip(gradients(query, key, value), expected):
        np.testing.assert_allclose(got, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("most", [1, 60, 120, 10_000])
@pytest.mark.parametrize("masked", [None, "keys", "pairs"])
def test_rows_and_heads_in_parts_change_nothing(masked, most, monkeypatch):
    """Of 3 rows, 2 heads and 5 x 7 logits: parts of one pair, of one, of three, of all."""
    rng = np.random.default_rng(0)
    query = jnp.float32(rng.standard_normal((3, 2, 5, 4)))
    key, value = jnp.float32(rng.standard_normal((2, 3, 2, 7, 4)))
    keys = jnp.asarray(np.arange(7) < np.array([[3], [7], [5]]))
    masks = {"keys": keys[:, None, None], "pairs": np.tri(5, 7, 2, bool)[None, None]}

    def run(*given):
        return masked_attention(*given, softmax_scale=SCALE, mask=masks.get(masked))

    expected = run(query, key, value)
    gradients = jax.grad(lambda *given: run(*given).sum(), (0, 1, 2))
    expected_gradients = gradients(query, key, value)
    monkeypatch.setattr("mvar_jax.ops._xla_attention.CPU_LOGITS_AT_ONCE", most)
    assert ("scan" in str(jax.make_jaxpr(run)(query, key, value))) == (most < 3 * 2 * 5 * 7)
    np.testing.assert_allclose(run(query, key, value), expected, rtol=0, atol=1e-6)
    for got, other in zip(gradients(query, key, value), expected_gradients):
        np.testing.assert_allclose(got, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_the_softmax(masked):
    rng = np.random.default_rng(0)
    mask = np.arange(7) < np.array([[3], [7]]) if masked else np.ones((2, 7), bool)

    def plain(query, key, value):
        logits = SCALE * jnp.einsum("bhnd,bhmd->bhnm", query, key)
        weights = jax.nn.softmax(jnp.where(mask[:, None, None], logits, -jnp.inf), axis=-1)
        return jnp.einsum("bhnm,bhmd->bhnd", weights, value)

    def ours(*vectors):
        given = jnp.asarray(mask) if masked else None
        return attention(*vectors, softmax_scale=SCALE, mask=given, implementation="xla")

    with jax.enable_x64(True):
        query, gradient = jnp.asarray(rng.standard_normal((2, 2, 3, 5, 4)))
        key, value = jnp.asarray(rng.standard_normal((2, 2, 3, 7, 4)))
        expected, backward = jax.vjp(plain, query, key, value)
        mixed, ours_backward = jax.vjp(ours, query, key, value)
        np.testing.assert_allclose(mixed, expected, rtol=0, atol=1e-13)
        for got, other in zip(ours_backward(gradient), backward(gradient)):
            np.testing.assert_allclose(got, other, rtol=0, atol=1e-13)


def test_gradients_of_peaked_attention_keep_their_digits_in_bfloat16():
    """Every query has a key of its own: what its result loses in 16 bits exceeds its gradient."""
    rng = np.random.default_rng(0)
    key, value, gradient = jnp.bfloat16(rng.standard_normal((3, 2, 3, 40, 64)))
    query = key = key / jnp.linalg.norm(key, axis=-1, keepdims=True)

    def gradients(*vectors):
        run = partial(attention, softmax_scale=16.0, implementation="xla")
        mixed, backward = jax.vjp(run, *vectors)
        return backward(gradient.astype(mixed.dtype))

    exact = gradients(*map(jnp.float32, (query, key, value)))
    for got, other in zip(gradients(query, key, value), exact):
        error = jnp.linalg.norm(got.astype("float32") - other)
        assert got.dtype == jnp.bfloat16
        assert error < 0.01 * jnp.linalg.norm(other)


def test_gradients_of_large_logits_have_the_error_of_the_softmax():
    """All logits of a query share 64: their gradients cancel, as do those of its first channel."""
    rng = np.random.default_rng(0)
    query, key, value, gradient = np.float32(rng.standard_normal((4, 2, 3, 40, 64)))
    key = 0.1 * key
    query[..., 0], key[..., 0] = 8, 8

    def plain(query, key, value):
        weights = jax.nn.softmax(jnp.einsum("bhnd,bhmd->bhnm", query, key), axis=-1)
        return jnp.einsum("bhnm,bhmd->bhnd", weights, value)

    def error(run):
        _, backward = jax.vjp(run, query, key, value)
        return jnp.abs(backward(gradient)[0][..., 0]).max()

    assert error(partial(attention, softmax_scale=1.0, implementation="xla")) < 2 * error(plain)


def test_several_cpus_keep_their_rows(monkeypatch):
    monkeypatch.setattr("mvar_jax.ops._xla_attention.CPU_LOGITS_AT_ONCE", 1)
    array = jnp.ones((8, 2, 4, 4))

    def traced():
        run = partial(attention, softmax_scale=SCALE)
        return str(jax.make_jaxpr(lambda *given: run(*given))(array, array, array))

    assert "scan" in traced()
    with jax.sharding.use_abstract_mesh(AbstractMesh((8,), ("data",))):
        assert "scan" not in traced()


def test_bfloat16_weights_come_from_a_float32_softmax():
    """Logits of 256 and 257 are one number in bfloat16, and two in the softmax."""
    query = jnp.full((1, 1, 1, 2), 16.0, jnp.bfloat16)
    key = jnp.array([[16.0, 0.0], [16.0, 0.0625]], jnp.bfloat16)[None, None]
    value = jnp.array([0.0, 1.0], jnp.bfloat16)[None, None, :, None].repeat(2, axis=-1)
    mixed = attention(query, key, value, softmax_scale=1.0)
    assert mixed.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(mixed), jax.nn.sigmoid(1.0), rtol=1e-2)


def test_a_bias_is_added_and_masked_keys_have_no_weight():
    generator = np.random.default_rng(0)
    query, key, value = generator.standard_normal((3, 2, 3, 5, 4))
    bias, mask = generator.standard_normal((3, 5, 5)), np.arange(5) < np.array([[3], [5]])
    logits = np.einsum("bhnd,bhmd->bhnm", query, key) + bias
    weights = np.exp(logits) * mask[:, None, None]
    weights /= weights.sum(axis=-1, keepdims=True)
    expected = np.einsum("bhnm,bhmd->bhnd", weights, value)
    inputs = jax.tree.map(jnp.float32, (query, key, value, bias))
    mixed = biased_attention(*inputs, jnp.asarray(mask))
    np.testing.assert_allclose(mixed, expected, rtol=0, atol=1e-5)
    other = jnp.where(mask[:, None, :, None], inputs[2], 1e6)
    again = biased_attention(*inputs[:2], other, inputs[3], jnp.asarray(mask))
    np.testing.assert_array_equal(again, mixed)


def test_cosine_attention_is_blind_to_lengths_and_clamped():
    generator = np.random.default_rng(0)
    query, key = jnp.float32(generator.standard_normal((2, 1, 2, 3, 4)))
    unit_query, unit_key = cosine_normalize(query, key, jnp.array([jnp.log(3.0), 9.0]))
    lengths = jnp.linalg.norm(unit_query, axis=-1)
    np.testing.assert_allclose(
        lengths, jnp.broadcast_to(jnp.array([[3.0], [100.0]]), (1, 2, 3)), 1e-5
    )
    np.testing.assert_allclose(jnp.linalg.norm(unit_key, axis=-1), 1.0, rtol=1e-5)
    longer = cosine_normalize(7 * query, 0.1 * key, jnp.array([jnp.log(3.0), 9.0]))
    np.testing.assert_allclose(longer[0], unit_query, rtol=1e-5)
    np.testing.assert_allclose(longer[1], unit_key, rtol=1e-5)


def test_zero_vectors_have_finite_gradients():
    zero = jnp.zeros((1, 1, 1, 4))
    gradients = jax.grad(
        lambda q, k: sum(map(jnp.sum, cosine_normalize(q, k, jnp.zeros(1)))), (0, 1)
    )
    assert all(jnp.isfinite(array).all() for array in gradients(zero, zero))


class TestImplementations(ImplementationsAgree):
    op = ATTENTION
    tolerance = 3e-6
    cases = CASES

    def arrays(self, case):
        queries, keys, dim, _ = case
        chosen = zip(jax.random.split(jax.random.key(0), 3), (queries, keys, keys))
        return tuple(jax.random.normal(key, (2, 2, length, dim)) for key, length in chosen)

    def compute(self, case, arrays, implementation):
        mask = None
        if case[3]:  # one row sees no key of the first and of the last block
            mask = jnp.array([1, 33])[:, None] <= jnp.arange(case[1])
            mask &= jnp.arange(case[1]) < jnp.array([77, 60])[:, None]
        return attention(*arrays, softmax_scale=SCALE, mask=mask, implementation=implementation)
