import jax
import numpy as np
import pytest

from mvar_jax.ops.upsample import upsampled_convolution


def repeated(maps, kernel):
    maps = maps.repeat(2, axis=1).repeat(2, axis=2)
    return jax.lax.conv_general_dilated(
        maps, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 2)])
def test_convolves_the_repeated_map_in_value_and_gradient(size, platform, monkeypatch):
    monkeypatch.setattr("mvar_jax.ops.implementations.platform", lambda: platform)
    keys = jax.random.split(jax.random.key(0), 3)
    maps = jax.random.normal(keys[0], (2, *size, 3))
    kernel = jax.random.normal(keys[1], (3, 3, 3, 4))
    weights = jax.random.normal(keys[2], (2, 2 * size[0], 2 * size[1], 4))

    def run(convolve):
        def weighted(maps, kernel):
            return (convolve(maps, kernel) * weights).sum()

        return convolve(maps, kernel), jax.grad(weighted, argnums=(0, 1))(maps, kernel)

    for ours, expected in zip(
        jax.tree.leaves(run(upsampled_convolution)), jax.tree.leaves(run(repeated)), strict=True
    ):
        np.testing.assert_allclose(ours, expected, atol=3e-5)
    assert run(upsampled_convolution)[0].dtype == maps.dtype


def test_the_products_are_four_ninths():
    maps = jax.ShapeDtypeStruct((1, 32, 32, 16), np.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 16, 16), np.float32)

    def flops(convolve):
        return jax.jit(convolve).lower(maps, kernel).cost_analysis()["flops"]

    assert flops(upsampled_convolution) < 0.5 * flops(repeated)
