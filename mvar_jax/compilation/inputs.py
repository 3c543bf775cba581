"""Arguments of a program that is only compiled: shapes, and where they lie on the ambient mesh."""

import jax
from jax.typing import DTypeLike

from mvar_jax.sharding import BATCH, param_shardings
from mvar_jax.typing import PyTree


def placed(shapes: PyTree) -> PyTree:
    """Shapes of parameters, or of a training state, split as the rules say."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        param_shardings(shapes, jax.sharding.get_mesh()),
    )


def by_image(shape: tuple[int, ...], dtype: DTypeLike) -> jax.ShapeDtypeStruct:
    """An array whose first axis counts images."""
    sharding = jax.sharding.NamedSharding(jax.sharding.get_mesh(), jax.P(BATCH))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
