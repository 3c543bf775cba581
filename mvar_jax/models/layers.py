"""Layers that the blocks use."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, HostArray
from mvar_jax.mesh.axes import devices_along
from mvar_jax.models.layer_kernels import ChosenKernel, apply_kernel
from mvar_jax.ops.matmul import matmul
from mvar_jax.ops.module import Module


class Projection(Module):
    """A linear map of the last axis of an array.

    The parameters are `kernel` `[*inputs, *outputs]` and, unless `bias` is off, `bias`
    `[*outputs]`, float32. Input and output have these axes flattened into one, since compilers
    lay out a matmul of two axes best. Computed in the dtype of the input. The kernel is
    initialised normal with `std` (the original truncates at an absolute 2, which truncates nothing
    at these widths).
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    std: float
    bias: bool = True

    def setup(self):
        """The parameters."""
        start = nn.initializers.normal(self.std)
        self.kernel = self.param("kernel", start, (*self.inputs, *self.outputs))
        if self.bias:
            self.offset = self.param("bias", nn.initializers.zeros, self.outputs)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Maps `[..., prod(inputs)]` to `[..., prod(outputs)]`."""
        y = flat_product(x, self.kernel)
        return y + self.offset.reshape(-1).astype(x.dtype) if self.bias else y

    def apart(self, x: Float[Array, "..."]) -> tuple[Float[Array, "..."], ...]:
        """One output array per index of the first output axis, without the bias.

        For one input axis and many tokens: avoids slicing a long output, at the price of slicing
        the kernel.
        """
        return tuple(flat_product(x, self.kernel[:, i]) for i in range(self.outputs[0]))


def flat_product(
    x: Float[Array, "..."], kernel: Float[HostArray, "..."] | ChosenKernel
) -> Float[Array, "..."]:
    """Matmul of the last axis of x with a kernel; input and output axes are flattened into one."""
    return apply_kernel(_flattened, x, kernel)


def _flattened(x, kernel):
    return matmul(x, kernel.reshape(x.shape[-1], -1).astype(x.dtype))


def product_onto_several(
    x: Float[Array, "*batch inputs"],
    kernel: Float[HostArray, "inputs count ..."] | ChosenKernel,
    split: str | tuple[str, ...],
) -> Float[Array, "..."]:
    """Matmul of the last axis of x with a kernel onto `count` arrays, `[*batch, count, ...]`.

    Outputs are flattened into one axis, as compilers lay out best, unless the axes `split` of the
    mesh give devices a part of every array: these lie apart in such an axis.
    """
    mesh = jax.sharding.get_abstract_mesh()
    shared = mesh.size > 1 and devices_along(split, mesh) > 1
    if shared and not isinstance(kernel, ChosenKernel):  # which is on one device
        return jnp.tensordot(x, kernel.astype(x.dtype), axes=1)
    return flat_product(x, kernel).reshape(*x.shape[:-1], *kernel.shape[1:])


def linear_std(width: int) -> float:
    """Standard deviation of the initial weights of linear layers and embeddings (VAR)."""
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
