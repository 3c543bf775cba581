import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.resize import resize_area, resize_bicubic, resize_bilinear


def test_equal_sizes_return_the_map_itself():
    maps = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    assert resize_bicubic(maps, (16, 16)) is maps
    assert resize_area(maps, (16, 16)) is maps
    assert resize_bilinear(maps, (16, 16)) is maps


@pytest.mark.parametrize("small,large", [((2, 5), (3, 7)), ((1, 3), (6, 4))])
def test_sides_are_resized_independently(small, large):
    for resize, size, target in ((resize_bicubic, small, large), (resize_area, large, small)):
        maps = jax.random.normal(jax.random.key(0), (2, *size, 3))
        both = resize(maps, target)
        assert both.shape == (2, *target, 3)
        rows_first = resize(resize(maps, (target[0], size[1])), target)
        columns_first = resize(resize(maps, (size[0], target[1])), target)
        transposed = resize(maps.swapaxes(1, 2), target[::-1]).swapaxes(1, 2)
        for other in (rows_first, columns_first, transposed):
            np.testing.assert_allclose(both, other, atol=2e-6)


def test_area_is_the_mean_of_overlapping_windows():
    row = jnp.arange(5.0)[None, None, :, None]
    np.testing.assert_allclose(resize_area(row, (1, 3))[0, 0, :, 0], [0.5, 2.0, 3.5])
    np.testing.assert_allclose(resize_area(row, (1, 2))[0, 0, :, 0], [1.0, 3.0])


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (8, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]),
        (3, [1 / 6, 1.5, 17 / 6]),
        (2, [0.5, 2.5]),
        (1, [1.5]),
    ],
)
def test_bilinear_samples_at_the_centres_of_cells(size, expected):
    row = jnp.arange(4.0)[None, None, :, None]
    np.testing.assert_allclose(resize_bilinear(row, (1, size))[0, 0, :, 0], expected, rtol=1e-6)


def test_bilinear_does_not_average_what_it_leaves_out():
    spike = jnp.zeros((1, 1, 9, 1)).at[0, 0, 2, 0].set(1)  # centres of 3 of 9 are at 1, 4 and 7
    np.testing.assert_array_equal(resize_bilinear(spike, (1, 3)), 0)


@pytest.mark.parametrize("sizes", [((2, 5), (3, 7)), ((6, 4), (4, 3))], ids=str)
def test_bilinear_is_that_of_jax_without_antialiasing(sizes):
    (height, width), (out_height, out_width) = sizes
    maps = jax.random.normal(jax.random.key(0), (2, height, width, 3))
    expected = jax.image.resize(maps, (2, out_height, out_width, 3), "linear", antialias=False)
    np.testing.assert_allclose(resize_bilinear(maps, sizes[1]), expected, atol=1e-6)


@pytest.mark.parametrize("resize", [resize_area, resize_bicubic, resize_bilinear])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_dtype_is_kept_and_constants_stay(resize, dtype):
    maps = jnp.full((1, 3, 5, 2), 0.5, dtype)
    resized = resize(maps, (4, 2))
    assert resized.dtype == dtype
    np.testing.assert_allclose(resized.astype(jnp.float32), 0.5, atol=2e-3)
