"""The order of heads: a policy's groups of heads are made neighbours once, before sampling."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Params
from mvar_jax.models.trunk import Trunk

# The axis of heads in the parameters of one attention layer.
HEAD_AXES = {
    ("qkv",): 2,
    ("query_bias",): 0,
    ("value_bias",): 0,
    ("query_scale",): 0,
    ("out", "kernel"): 0,
}


def order_heads(params: Params, trunk: Trunk, order: Sequence[Sequence[int]] | None) -> Params:
    """The trunk's parameters with the heads of its attention over the history in a new order.

    `order[layer]` lists the present places of the heads, layers counted as in
    `Trunk.attention_shape`; None changes nothing. The trunk computes the same.
    """
    if order is None:
        return params
    reaches = [kind.attention_reach == "history" for kind in trunk.config.kinds]
    places = [place for place, reach in enumerate(reaches) if reach]
    params = dict(params)
    for i, place in enumerate(places):
        own = np.array(order[i :: len(places)])  # [repetitions, heads]
        block = params[f"blocks_{place}"]
        attention = _ordered(block["attention"], own, ())
        params[f"blocks_{place}"] = {**block, "attention": attention}
    return params


def _ordered(tree, order, path):
    if isinstance(tree, dict):
        return {name: _ordered(value, order, (*path, name)) for name, value in tree.items()}
    if path not in HEAD_AXES:
        return tree
    axis = HEAD_AXES[path] + 1  # behind the axis of repetitions
    shape = [1] * tree.ndim
    shape[0], shape[axis] = order.shape
    return jnp.take_along_axis(jnp.asarray(tree), order.reshape(shape), axis=axis)
