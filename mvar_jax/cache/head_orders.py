"""The orders in which heads forget scales, as HeatKV publishes them."""

from pathlib import Path

import numpy as np

from mvar_jax.array_types import Int
from mvar_jax.cache.plan import AttentionShape
from mvar_jax.checks import check
from mvar_jax.files import load_json
from mvar_jax.scales import ScaleSchedule


def read_head_orders(
    path: Path, schedule: ScaleSchedule, shape: AttentionShape, sink_scales: int
) -> Int[np.ndarray, "layers heads scales"]:
    """The rank of every head among those that forget a scale, int; the lowest forgets it first.

    The file of HeatKV's public code (arXiv 2605.14877) is a JSON list: for every scale but the
    first `sink_scales` and the last, all pairs [head, layer] in the order in which they forget it.
    Scales that it does not list have rank 0. Raises ValueError for a file that is none of this
    model, and OSError for one that cannot be read.
    """
    listed = range(sink_scales, len(schedule) - 1)
    orders = _pairs(path)
    expected = (len(listed), shape.layers * shape.heads, 2)
    check(
        orders.shape == expected,
        f"{path}: got orders of shape {orders.shape}, expected {expected}, that is {len(listed)} "
        f"scales, {shape.layers} layers of {shape.heads} heads; take the orders of the model.",
    )
    ranks = np.zeros((*shape, len(schedule)), int)
    places = np.arange(shape.layers * shape.heads)
    for scale, order in zip(listed, orders):
        inside = (order >= 0) & (order < (shape.heads, shape.layers))
        check(
            bool(inside.all()) and len(np.unique(order, axis=0)) == len(order),
            f"{path}: the order of scale {scale} does not name each pair [head, layer] once; get "
            "the file again.",
        )
        ranks[order[:, 1], order[:, 0], scale] = places
    return ranks


def _pairs(path: Path) -> Int[np.ndarray, "..."]:
    """The numbers of a file, of whatever shape they are."""
    try:
        orders = np.array(load_json(path))
    except ValueError:
        orders = np.array("none")
    check(
        np.issubdtype(orders.dtype, np.integer),
        f"{path}: not a file of head orders, a JSON list of lists of [head, layer].",
    )
    return orders
