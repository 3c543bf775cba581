"""k-means finds clusters that were planted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.kmeans import kmeans


def planted(clusters, each, seed=0):
    """Centres far from each other, and vectors close to them in random order."""
    generator = np.random.default_rng(seed)
    centres = 10 * generator.standard_normal((clusters, 4))
    vectors = np.repeat(centres, each, axis=0) + 0.01 * generator.standard_normal(
        (clusters * each, 4)
    )
    return centres, jnp.asarray(generator.permutation(vectors), jnp.float32)


@pytest.mark.parametrize("seed", range(3))
def test_planted_clusters_are_found(seed):
    centres, vectors = planted(12, 20)
    found = np.asarray(jax.jit(kmeans, static_argnums=2)(jax.random.key(seed), vectors, 12))
    distances = np.linalg.norm(centres[:, None] - found, axis=-1)
    assert distances.min(axis=1).max() < 0.02
    assert sorted(distances.argmin(axis=1)) == list(range(12))


def test_draws_follow_the_key():
    _, vectors = planted(12, 20)
    once, again, other = (kmeans(jax.random.key(seed), vectors, 3) for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 0.1


def test_equal_vectors_and_as_many_clusters_as_vectors():
    same = jnp.ones((6, 4))
    np.testing.assert_array_equal(kmeans(jax.random.key(0), same, 3), same[:3])
    few = jnp.arange(12.0).reshape(3, 4)
    found = np.asarray(kmeans(jax.random.key(0), few, 3))
    np.testing.assert_allclose(found[found[:, 0].argsort()], few)
    with pytest.raises(ValueError, match="kmeans: got 4 clusters of 3 vectors"):
        kmeans(jax.random.key(0), few, 4)
