"""Loss, draws and mixtures of categorical tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mvar_jax.tokenizers import CategoricalTokens


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_loss_is_cross_entropy_with_the_smoothed_target(smoothing, dtype):
    logits = jax.random.normal(jax.random.key(0), (2, 3, 5)).astype(dtype)
    targets = jnp.array([[0, 4, 2], [1, 1, 3]])
    loss = CategoricalTokens(5).loss(logits, targets, smoothing)
    assert loss.shape == (2, 3) and loss.dtype == jnp.float32

    values = np.float64(logits.astype(jnp.float32))
    log_probabilities = values - np.log(np.exp(values).sum(-1, keepdims=True))
    wanted = (1 - smoothing) * np.eye(5)[targets] + smoothing / 5
    np.testing.assert_allclose(loss, -(wanted * log_probabilities).sum(-1), atol=1e-6)


def test_loss_and_gradient_are_those_of_optax():
    smoothing = 0.1
    logits = 5 * jax.random.normal(jax.random.key(0), (2, 3, 5))
    targets = jnp.array([[0, 4, 2], [1, 1, 3]])
    labels = optax.smooth_labels(jax.nn.one_hot(targets, 5), smoothing)

    def theirs(logits):
        return optax.softmax_cross_entropy(logits, labels).sum()

    def ours(logits):
        return CategoricalTokens(5).loss(logits, targets, smoothing).sum()

    value, gradient = jax.jit(jax.value_and_grad(ours))(logits)
    expected_value, expected_gradient = jax.jit(jax.value_and_grad(theirs))(logits)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)


def test_draws_follow_the_softmax():
    """20000 draws; chi-square with 6 degrees of freedom is above 22.5 once in 1000 times."""
    removed = -jnp.inf
    logits = jnp.array([0.0, -1.0, 1.5, removed, 0.5, -3.0, 1.0, 1.0])
    space, keys = CategoricalTokens(8), jax.random.split(jax.random.key(0), 20)
    noise = jax.jit(space.noise, static_argnums=(1, 2))(keys, 3, 1000)
    tokens = space.sample(jnp.broadcast_to(logits, noise.shape), noise)
    assert tokens.shape == (20, 1000) and jnp.issubdtype(tokens.dtype, jnp.integer)
    counts = np.bincount(np.ravel(tokens), minlength=8)
    expected = np.float64(jax.nn.softmax(logits)) * tokens.size
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert np.sum((counts - expected)[possible] ** 2 / expected[possible]) < 22.5
