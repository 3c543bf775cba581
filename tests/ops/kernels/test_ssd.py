"""The state-space kernel, interpreted, against the plain form: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from mvar_jax.ops import ssd as plain
from mvar_jax.ops.kernels import ssd as kernel

HEADS, STATE = 4, 16


def plain_ssd(x, dt, decay_rate, b, c, skip):
    apart = rearrange(x, "b n (h d) -> b n h d", h=HEADS)
    y, _ = plain.ssd(apart, dt, decay_rate, b, c)
    return rearrange(y + skip[:, None] * apart, "b n h d -> b n (h d)")


@pytest.mark.parametrize("length", [24, 128, 300])
def test_kernel_is_the_plain_form(length):
    keys = jax.random.split(jax.random.key(length), 7)
    x, gradient = (jax.random.normal(key, (2, length, 256)) for key in keys[:2])
    dt = jax.nn.softplus(jax.random.normal(keys[2], (2, length, HEADS)) - 2)
    decay_rate = -jnp.exp(jax.random.normal(keys[3], (HEADS,)))
    b, c = (jax.random.normal(key, (2, length, STATE)) for key in keys[4:6])
    inputs = (x, dt, decay_rate, b, c, jax.random.normal(keys[6], (HEADS,)))
    results = []
    for form in (plain_ssd, kernel.ssd):
        y, backward = jax.vjp(form, *inputs)
        results.append((y, backward(gradient)))
    for expected, got in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
