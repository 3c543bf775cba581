"""Creating and loading arrays with their shardings on the ambient mesh."""

from collections.abc import Callable
from typing import Any

import jax

from mvar_jax.array_types import PyTree
from mvar_jax.models.parameters import param_shardings


def create_placed(make: Callable[..., PyTree], *arguments: PyTree) -> PyTree:
    """Runs `make` jitted, with its output sharded over the ambient mesh; arguments are donated.

    Without an ambient mesh the result is on the first device. Raises ValueError as
    `param_shardings` does.
    """
    mesh = jax.sharding.get_mesh()
    shapes = jax.eval_shape(make, *arguments)
    shardings = None if mesh.empty else param_shardings(shapes, mesh)
    donated = tuple(range(len(arguments)))
    return jax.jit(make, out_shardings=shardings, donate_argnums=donated)(*arguments)


def with_shardings(shapes: PyTree) -> PyTree:
    """Shapes of parameters, or of a state, with their shardings on the ambient mesh, if any."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return shapes
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        param_shardings(shapes, mesh),
    )


def place(tree: PyTree) -> PyTree:
    """Commits every array to its current device, as restored arrays are.

    Otherwise jit would compile twice.
    """
    return jax.tree.map(lambda leaf: jax.device_put(leaf, placement(leaf)), tree)


def placement(leaf: Any) -> jax.sharding.Sharding:
    """The sharding of an array; this process's first device for shapes and NumPy arrays."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return getattr(leaf, "sharding", None) or here
