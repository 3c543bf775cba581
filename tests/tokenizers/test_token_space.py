import jax
import jax.numpy as jnp
import numpy as np
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
