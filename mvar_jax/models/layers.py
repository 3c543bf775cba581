"""Layers that every block is made of."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from mvar_jax.typing import Array, Float


class Projection(nn.Module):
    """A linear map of the last axes of an array, onto any number of axes.

    Parameters `kernel` `[*inputs, *outputs]` and, unless `bias` is off, `bias` `[*outputs]`, in
    float32; computed in the dtype of the input. The kernel starts normal with `std` (the
    original truncates at an absolute 2, which is no truncation at these widths).
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    std: float
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Maps `[..., *inputs]` to `[..., *outputs]`."""
        start = nn.initializers.normal(self.std)
        kernel = self.param("kernel", start, (*self.inputs, *self.outputs))
        y = jnp.tensordot(x, kernel.astype(x.dtype), axes=len(self.inputs))
        if not self.bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, self.outputs)
        return y + bias.astype(x.dtype)


def linear_std(width: int) -> float:
    """Standard deviation of every linear layer and embedding at the start (VAR)."""
    return math.sqrt(1 / (3 * width))


def modulated_norm(
    x: Float[Array, "batch n width"],
    scale: Float[Array, "batch width"],
    shift: Float[Array, "batch width"],
    epsilon: float,
) -> Float[Array, "batch n width"]:
    """`LN(x) * (1 + scale) + shift`, the norm without parameters in at least float32 (adaLN)."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    normal = centred * jax.lax.rsqrt(variance + epsilon)
    return (normal * (1 + scale[:, None]) + shift[:, None]).astype(x.dtype)


def drop_path(
    branch: Float[Array, "batch n width"], rate: Float[Array, ""], draws: Float[Array, "batch"]
) -> Float[Array, "batch n width"]:
    """Stochastic depth: drops the branch of whole samples, and scales the kept ones up.

    `draws` are uniform in [0, 1); those below `1 - rate` keep their sample's branch.
    """
    kept = (draws < 1 - rate)[:, None, None]
    return jnp.where(kept, branch / (1 - rate).astype(branch.dtype), 0)
