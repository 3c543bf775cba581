"""Changes of images: their ranges, what they depend on, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.diff_augment import change_colours, diff_augment, shift
from mvar_jax.ops.noise import image_keys

SIZES = [(16, 16), (9, 24)]


def some(height=16, width=16, batch=3):
    values = np.random.default_rng(0).uniform(-1, 1, (batch, height, width, 3))
    return jnp.asarray(values, jnp.float32)


@pytest.mark.parametrize("size", SIZES)
def test_shapes_stay_and_keys_alone_decide(size):
    images, keys = some(*size), image_keys(7, jnp.arange(3))
    once, again = (jax.jit(diff_augment)(images, keys) for _ in range(2))
    assert once.shape == images.shape and once.dtype == jnp.float32
    np.testing.assert_array_equal(once, again)
    other = diff_augment(images, image_keys(8, jnp.arange(3)))
    assert all(not np.array_equal(one, two) for one, two in zip(once, other))
    # An image's changes do not depend on the images beside it.
    alone = jax.jit(diff_augment)(images[1:2], keys[1:2])
    np.testing.assert_allclose(alone[0], once[1], rtol=1e-6, atol=1e-6)


def test_gradients_reach_the_pixels_that_are_seen():
    images, keys = some(), image_keys(3, jnp.arange(3))
    slope = jax.grad(lambda x: jnp.sum(diff_augment(x, keys) ** 2))(images)
    assert np.isfinite(slope).all() and np.mean(np.asarray(slope) != 0) > 0.5
    moved = diff_augment(images + 1e-2 * slope, keys)
    assert float(jnp.sum(moved**2)) > float(jnp.sum(diff_augment(images, keys) ** 2))


def test_colours_in_the_middle_of_their_ranges_stay():
    images = some()
    same = change_colours(images, jnp.full((3, 3), 0.5))
    np.testing.assert_allclose(same, images, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_colours_by_hand(share):
    images = np.asarray(some(), np.float64)
    expected = images + share - 0.5
    grey = expected.mean(axis=3, keepdims=True)
    expected = grey + 2 * share * (expected - grey)
    mean = expected.mean(axis=(1, 2, 3), keepdims=True)
    expected = mean + (share + 0.5) * (expected - mean)
    found = change_colours(jnp.asarray(images, jnp.float32), jnp.full((3, 3), share))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_shifts_are_exact_and_move_zeros_in():
    images = some(6, 5)
    found = np.asarray(shift(images, jnp.array([0, 2, -1]), jnp.array([0, -1, 3])))
    expected = np.zeros_like(images)
    expected[0] = images[0]
    expected[1, 2:, :-1] = images[1, :-2, 1:]
    expected[2, :-1, 3:] = images[2, 1:, :-3]
    np.testing.assert_array_equal(found, expected)


def test_shifts_and_holes_have_the_published_ranges():
    size, count = 16, 400
    ones = jnp.ones((count, size, size, 1))
    keys = image_keys(0, jnp.arange(count))
    seen = np.asarray(jax.jit(diff_augment)(ones, keys))[..., 0] != 0
    rows, columns = seen.any(axis=2).sum(axis=1), seen.any(axis=1).sum(axis=1)
    assert rows.min() == columns.min() == size - 2  # an eighth is shifted out
    assert rows.max() == columns.max() == size
    holes = size * size - seen.sum(axis=(1, 2)) - (size * size - rows * columns)
    assert holes.max() == 64 and 0 < holes.min() < 32  # a quarter of the area, or cut by the edge
