"""Parameters and states that are made, or loaded, where they belong on the ambient mesh."""

from collections.abc import Callable
from functools import partial

import jax
import optax

from mvar_jax.array_types import Params, PyTree
from mvar_jax.mesh.sharding import param_shardings
from mvar_jax.training.state import TrainState, create_state


def create_placed(make: Callable[..., PyTree], *arguments: PyTree) -> PyTree:
    """Runs `make` jitted, with its output sharded over the ambient mesh; arguments are donated.

    Without an ambient mesh the result lies on the first device. Raises ValueError as
    `param_shardings` does.
    """
    mesh = jax.sharding.get_mesh()
    shapes = jax.eval_shape(make, *arguments)
    shardings = None if mesh.empty else param_shardings(shapes, mesh)
    donated = tuple(range(len(arguments)))
    return jax.jit(make, out_shardings=shardings, donate_argnums=donated)(*arguments)


def new_state(
    params: Params, optimizer: optax.GradientTransformation, ema_decay: float
) -> TrainState:
    """The state before the first update, which takes over the memory of `params`."""
    return create_placed(partial(create_state, optimizer=optimizer, ema_decay=ema_decay), params)


def state_shapes(
    params: PyTree, optimizer: optax.GradientTransformation, ema_decay: float
) -> TrainState:
    """The shapes of that state, from shapes of parameters, with their shardings."""
    make = partial(create_state, optimizer=optimizer, ema_decay=ema_decay)
    return with_shardings(jax.eval_shape(make, params))


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
