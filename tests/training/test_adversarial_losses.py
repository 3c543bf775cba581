"""The losses of the adversary, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.training.adversarial_losses import (
    adaptive_quotient,
    generator_loss,
    hinge_loss,
    lecam_loss,
)

REAL = jnp.array([[[2.0, 0.5]], [[-1.0, 1.0]]])
FAKE = jnp.array([[[-3.0, 0.5]], [[-0.25, 1.0]]])


def test_hinge():
    real = (0 + 0.5 + 2 + 0) / 4
    fake = (0 + 1.5 + 0.75 + 2) / 4
    assert float(hinge_loss(REAL, FAKE)) == pytest.approx((real + fake) / 2)
    assert float(hinge_loss(REAL + 3, FAKE - 3)) == 0


def test_generator():
    assert float(generator_loss(FAKE)) == pytest.approx(1.75 / 4)


def test_lecam():
    found = lecam_loss(REAL, FAKE, real_average=jnp.array(0.75), fake_average=jnp.array(-0.5))
    real = (2.5**2 + 1.0**2 + 0 + 1.5**2) / 4
    fake = (3.75**2 + 0.25**2 + 1.0**2 + 0) / 4
    assert float(found) == pytest.approx(real + fake)


def test_quotient_of_gradients():
    one, other = jnp.array([[3.0, 4.0]]), jnp.array([[0.0, 0.5]])
    assert float(adaptive_quotient(one, other, (0.0, 1e4))) == pytest.approx(5 / (0.5 + 1e-4))
    assert float(adaptive_quotient(one, other, (0.0, 3.0))) == 3
    assert float(adaptive_quotient(one, other, (20.0, 30.0))) == 20
    # Without any gradient the quotient is as large as it may be, and finite.
    assert float(adaptive_quotient(one, 0 * other, (0.0, 1e4))) == 1e4
    assert np.isfinite(adaptive_quotient(0 * one, 0 * other, (0.0, 1e4)))
