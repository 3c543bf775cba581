"""The kernels of a trunk layer by layer, for the loop over layers on a CPU."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from mvar_jax.array_types import Array, Float, HostArray, Leaf, Params
from mvar_jax.models.parameters import parameter

ALIGNMENT = 64  # bytes; JAX takes over an array of the host whose address is a multiple of it


@flax.struct.dataclass
class ChosenKernel:
    """One of several kernels of one shape, by an index that may be traced."""

    layers: tuple[Leaf, ...]
    index: Leaf

    @property
    def shape(self) -> tuple[int, ...]:
        """That of one kernel."""
        return self.layers[0].shape


@flax.struct.dataclass
class LayerKernels:
    """The kernels of all layers of a stack, each an array of its own."""

    layers: tuple[Leaf, ...]

    def __getitem__(self, index: int | Array) -> Array | ChosenKernel:
        """The kernel of a layer; of a traced index, one that `apply_kernel` chooses."""
        return self.layers[index] if isinstance(index, int) else ChosenKernel(self.layers, index)


def apply_kernel(
    function: Callable[[Array, HostArray], Array],
    x: Float[Array, "..."],
    kernel: Float[HostArray, "..."] | ChosenKernel,
) -> Float[Array, "..."]:
    """`function(x, kernel)`, a matmul; of several kernels, a program for each and a branch.

    XLA's CPU compiler copies a kernel that it slices from a stack before it multiplies with it,
    at every scale; a branch takes it where it lies.
    """
    if not isinstance(kernel, ChosenKernel):
        return function(x, kernel)
    shared = jax.jit(function)  # else every branch would be traced and lowered
    branches = [lambda rows, own=own: shared(rows, own) for own in kernel.layers]
    rows = jax.lax.switch(kernel.index, branches, x.reshape(-1, x.shape[-1]))
    return rows.reshape(*x.shape[:-1], rows.shape[-1])


def kernels_by_layer(trunk: Params) -> Params | None:
    """The stacked kernels of a trunk as `LayerKernels`, at their paths; None where nothing gains.

    They are those that blocks only multiply tokens with (`cast` in the table of parameters), if the
    trunk is on one CPU device, and the ambient mesh has no more. They take no memory: every layer
    is a view of the trunk's own array, which must not be donated while they are in use.
    """
    if jax.sharding.get_abstract_mesh().size > 1:
        return None
    kernels = {
        path: LayerKernels(_views(leaf))
        for path, leaf in flatten_dict(trunk).items()
        if _can_be_views(leaf) and parameter("/".join(path)).cast
    }
    return unflatten_dict(kernels) if kernels else None


def with_kernels(params: Mapping[str, Any], kernels: Mapping[str, Any]) -> Params:
    """Stacked parameters with the kernels of `kernels_by_layer` in their places."""
    return unflatten_dict(flatten_dict(params) | flatten_dict(kernels))


def _can_be_views(leaf: Leaf) -> bool:
    if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer):
        return False
    (device, *others), layers = leaf.devices(), leaf.shape[0]
    return (
        device.platform == "cpu"
        and not others
        and layers > 1
        and (leaf.nbytes // layers) % ALIGNMENT == 0
    )


def _views(leaf: Array) -> tuple[Array, ...]:
    (device,) = leaf.devices()
    return tuple(jax.device_put(layer, device) for layer in np.asarray(leaf))
