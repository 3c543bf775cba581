import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.resize import resize_area, resize_bicubic


def test_equal_sizes_return_the_map_itself():
    maps = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    assert resize_bicubic(maps, (16, 16)) is maps
    assert resize_area(maps, (16, 16)) is maps


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


@pytest.mark.parametrize("resize", [resize_area, resize_bicubic])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_dtype_is_kept_and_constants_stay(resize, dtype):
    maps = jnp.full((1, 3, 5, 2), 0.5, dtype)
    resized = resize(maps, (4, 2))
    assert resized.dtype == dtype
    np.testing.assert_allclose(resized.astype(jnp.float32), 0.5, atol=2e-3)
