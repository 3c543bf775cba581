import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.quantize import corners, nearest_code, nearest_corner


@pytest.fixture
def vectors_and_codes():
    generator = np.random.default_rng(0)
    return generator.standard_normal((3, 50, 8)), generator.standard_normal((40, 8))


def test_nearest_in_squared_distance(vectors_and_codes):
    vectors, codes = vectors_and_codes
    expected = np.argmin(np.sum((vectors[:, :, None] - codes) ** 2, axis=-1), axis=-1)
    found = nearest_code(jnp.float32(vectors), jnp.float32(codes))
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, expected)


def test_nearest_by_cosine_ignores_lengths(vectors_and_codes):
    vectors, codes = vectors_and_codes
    cosine = vectors @ codes.T / np.linalg.norm(codes, axis=-1)
    lengths = np.geomspace(0.1, 10, len(codes))[:, None]
    found = nearest_code(jnp.float32(vectors), jnp.float32(codes * lengths), normalize=True)
    np.testing.assert_array_equal(found, np.argmax(cosine, axis=-1))
    assert np.any(found != nearest_code(jnp.float32(vectors), jnp.float32(codes * lengths)))


def test_codes_find_themselves_and_ties_go_to_the_first():
    codes = jax.random.normal(jax.random.key(0), (16, 4))
    doubled = jnp.concatenate([codes, codes])
    np.testing.assert_array_equal(nearest_code(doubled[None], doubled)[0], [*range(16)] * 2)


def test_a_zero_vector_has_a_nearest_code():
    codes = jnp.array([[2.0, 0.0], [0.0, 1.0]])
    assert nearest_code(jnp.zeros((1, 1, 2)), codes) == 1
    assert nearest_code(jnp.zeros((1, 1, 2)), codes, normalize=True) == 0


def test_the_nearest_corner_of_the_cube():
    vectors = jnp.array([[0.3, -2.0, 0.0, 1e-9], [0.0, 0.0, 0.0, 0.0]])
    bits, corner = nearest_corner(vectors)
    assert bits.tolist() == [[1, 0, 0, 1], [0, 0, 0, 0]] and bits.dtype == jnp.uint8
    assert corner.tolist() == [[0.5, -0.5, -0.5, 0.5], [-0.5] * 4]
    np.testing.assert_array_equal(corners(bits, 4), corner)
    assert corners(jnp.array([0.5, 0.75]), 4).tolist() == [0.0, 0.25]


def test_bfloat16_vectors_are_compared_in_float32():
    codes = jnp.array([[1.0], [1.001]])
    assert nearest_code(jnp.full((1, 1, 1), 1.0078125, jnp.bfloat16), codes) == 1
