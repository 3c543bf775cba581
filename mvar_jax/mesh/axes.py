"""The axes of the mesh, and which of them split the arrays that a model computes.

The mesh has three axes. A batch is split over `data` and `fsdp`, parameters over `fsdp` and
`tensor`; arrays are replicated along every axis that does not split them. The mesh is ambient: the
functions here and `jax.shard_map` use that of `jax.set_mesh(mesh)`. Without one, nothing is
sharded.
"""

import math

import jax
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from mvar_jax.array_types import Array

BATCH = ("data", "fsdp")
"""The axes over which images are split."""

Axes = tuple[str | tuple[str, ...] | None, ...]
"""Per dimension of an array: the mesh axis, or axes, that split it."""

ACTIVATIONS: dict[str, Axes] = {
    "activation": (BATCH, None, None),  # batch n width
    "logits": (BATCH, None, "tensor"),  # batch n vocab
    # Conditions are sent to the devices of the modulation's weights, and the modulation vectors
    # back to the devices of their images.
    "condition": ("data", None),  # batch width
    "modulation_made": (None, "data", None, ("fsdp", "tensor")),  # layers batch groups width
    "modulation": (None, BATCH, None, None),
    "text": (BATCH, None, None),  # batch length width
    "images": (BATCH, None, None, None),  # batch height width channels
    "text_keys": (None, BATCH, "tensor", None, None),  # layers batch heads length dim
}
"""The mesh axes that split each dimension of the arrays that a model computes, by name."""


def constrain(x: Array, name: str) -> Array:
    """Constrains an array to the sharding `ACTIVATIONS[name]` on the ambient mesh, if any.

    A dimension that its axes do not divide is replicated along them, such as the last batch of a
    validation.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return x
    axes = [
        names if size % devices_along(names, mesh) == 0 else None
        for names, size in zip(ACTIVATIONS[name], x.shape, strict=True)
    ]
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


def batch_axes(size: int) -> tuple[str, ...]:
    """The axes of the ambient mesh that split a batch of `size` images, for `jax.shard_map`.

    Empty without a mesh, and if they do not divide the batch, which is then replicated.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return () if mesh.empty or size % devices_along(BATCH, mesh) else BATCH


def head_axis(groups: int) -> str | None:
    """The axis of the ambient mesh that splits `groups` groups of heads; None if none does."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or groups % devices_along("tensor", mesh) else "tensor"


def devices_along(names: str | tuple[str, ...] | None, mesh: Mesh | AbstractMesh) -> int:
    """The number of devices along one axis, or along several together."""
    names = (names,) if isinstance(names, str) else names or ()
    return math.prod(mesh.shape[name] for name in names)


def describe_mesh(mesh: Mesh | AbstractMesh) -> str:
    """The sizes of the axes, in words."""
    return " ".join(f"{name}={size}" for name, size in mesh.shape.items())
