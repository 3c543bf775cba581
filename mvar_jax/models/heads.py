"""Reorders heads once, before sampling, so that the heads of a policy's group are neighbours."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Params, path_name
from mvar_jax.models.parameters import parameter
from mvar_jax.models.trunk import Trunk


def order_heads(params: Params, trunk: Trunk, order: Sequence[Sequence[int]] | None) -> Params:
    """The trunk's parameters with the heads of its attention over the history in a new order.

    `order[layer]` lists the present indices of the heads, layers counted as in
    `Trunk.attention_shape`; None changes nothing. The trunk computes the same. Raises ValueError
    for a parameter that the table of parameters does not know.
    """
    if order is None:
        return params
    blocks = [f"blocks_{index}" for index in trunk.config.history_positions]
    # Per block of the pattern, [repetitions, heads].
    orders = {block: np.array(order[i :: len(blocks)]) for i, block in enumerate(blocks)}

    def ordered(path, leaf):
        name = path_name(path)
        axis, own = parameter(name).heads, orders.get(name.partition("/")[0])
        if axis is None or own is None:
            return leaf
        shape = [1] * leaf.ndim
        shape[0], shape[axis] = own.shape
        return jnp.take_along_axis(jnp.asarray(leaf), own.reshape(shape), axis=axis)

    return jax.tree_util.tree_map_with_path(ordered, params)
