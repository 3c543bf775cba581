"""Parameters and states that are made, or loaded, where they belong on the ambient mesh."""

from collections.abc import Callable
from functools import partial

import jax
import optax

from mvar_jax.array_types import Params, PyTree
from mvar_jax.models.parameters import param_shardings
from mvar_jax.training.state import TrainState, create_state


def create_placed(make: Callable[..., PyTree], *arguments: PyTree) -> PyTree:
    """What `make` makes, from arrays that are given up; never whole on one device of a mesh.

    Without an ambient mesh it lies on the first device. Raises ValueError as `param_shardings`
    does.
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
    """The shapes of that state, of shapes of parameters, with the devices they belong on."""
    make = partial(create_state, optimizer=optimizer, ema_decay=ema_decay)
    return with_places(jax.eval_shape(make, params))


def with_places(shapes: PyTree) -> PyTree:
    """Shapes of parameters, or of a state, with the devices they belong on; without, if no mesh."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return shapes
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        param_shardings(shapes, mesh),
    )
