"""Low-rank adapters of a trunk: small changes of its projections and of its classes.

LoRA (arXiv 2106.09685, section 4.1): a kernel W becomes `W + alpha / rank * down @ up`. An adapter
is a tree with the paths of the trunk's parameters. In place of a kernel `[layers, *inputs,
*outputs]` it has `{"down": [layers, *inputs, rank], "up": [layers, rank, *outputs]}`. Its
"class_embedding" `[classes, width]`, of a trunk of classes, is added to the embeddings of the first
classes; "no class", behind them, stays as it is.
"""

import math
import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float, Key, Params, PyTree, at_path, path_name
from mvar_jax.checks import check
from mvar_jax.config import AdapterConfig
from mvar_jax.models.layers import linear_std
from mvar_jax.models.parameters import constrain_params, parameter


def draw_adapter(trunk: PyTree, config: AdapterConfig, key: Key[Array, ""]) -> Params:
    """The adapter that training starts from, which changes nothing: `up` is zero.

    `trunk` are the trunk's parameters or their shapes. `down` is normal with the variance of linear
    layers; what is drawn for a kernel depends on the key and the kernel's name alone. The rank is
    at most that of the kernel. Raises ValueError where no block has any of the layers.
    """
    adapter: Params = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(trunk):
        name = path_name(path)
        *folders, last = name.split("/")
        if name == "class_embedding":
            adapter[name] = jnp.zeros((leaf.shape[0] - 1, leaf.shape[1]))
        elif parameter(name).inputs is not None and folders[1:2] and folders[1] in config.layers:
            within = adapter
            for folder in folders:
                within = within.setdefault(folder, {})
            own = jax.random.fold_in(key, zlib.crc32(name.encode()))
            within[last] = _draw_pair(name, leaf.shape, config.rank, own)
    check(
        any(name != "class_embedding" for name in adapter),
        f"adapter.layers: got {', '.join(config.layers)}, which no block of the model has; name "
        "others.",
    )
    return adapter


def _draw_pair(
    name: str, shape: tuple[int, ...], rank: int, key: Key[Array, ""]
) -> dict[str, Array]:
    """The two factors of the change of a kernel, whose product is zero."""
    split = 1 + (parameter(name).inputs or 0)
    layers, inputs, outputs = shape[0], shape[1:split], shape[split:]
    rank = min(rank, math.prod(inputs), math.prod(outputs))
    down = linear_std(math.prod(inputs)) * jax.random.normal(key, (layers, *inputs, rank))
    return {"down": down, "up": jnp.zeros((layers, rank, *outputs))}


def merge(trunk: Params, adapter: Params, *, strength: float, weight: float = 1.0) -> Params:
    """The parameters of the adapted trunk, sharded like the trunk's; pure.

    trunk: parameters of the trunk, of at least the adapter's classes.
    adapter: as `draw_adapter` creates it.
    strength: `alpha / rank`, the factor of the products.
    weight: how much of the adapter is taken, 1 for all of it.
    """

    def merged(path, leaf):
        own = at_path(adapter, path)
        if own is None:
            return leaf
        if isinstance(own, dict):
            return leaf + weight * strength * low_rank_product(**own)
        return leaf.at[: len(own)].add(weight * own)

    return constrain_params(jax.tree_util.tree_map_with_path(merged, trunk))


def low_rank_product(
    down: Float[Array, "layers *inputs rank"], up: Float[Array, "layers rank *outputs"]
) -> Float[Array, "layers ..."]:
    """`[layers, *inputs, *outputs]`, the product layer by layer, in float32 on every platform."""
    product = jax.vmap(lambda a, b: jnp.tensordot(a, b, axes=1, precision="highest"))
    return product(down, up)


def class_rows(
    embedding: Float[Array, "_ width"], rows: Sequence[int | None]
) -> Float[Array, "_ width"]:
    """An embedding of other classes: the old rows of the given indices, then that of "no class".

    None stands for a new class, which starts as the mean of all old ones.
    """
    count = len(embedding) - 1
    mean = jnp.mean(embedding[:count], axis=0, keepdims=True)
    table = jnp.concatenate([embedding, mean])
    return table[np.array([*(count + 1 if row is None else row for row in rows), count])]


def spread_classes(adapter: Params, rows: Sequence[int], count: int) -> Params:
    """An adapter whose classes become the given ones of `count`; the others stay as they are."""
    if "class_embedding" not in adapter:
        return adapter
    own = adapter["class_embedding"]
    spread = jnp.zeros((count, own.shape[1])).at[np.array(rows)].set(own)
    return adapter | {"class_embedding": spread}
