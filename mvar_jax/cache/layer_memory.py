"""The memory of one block, and the size of a memory in bytes."""

import flax.struct
import jax

from mvar_jax.array_types import PyTree
from mvar_jax.cache.layer_cache import LayerCache
from mvar_jax.cache.ssm_state import SSMState


@flax.struct.dataclass
class LayerMemory:
    """What one block carries from scale to scale; None for a mixer that the block does not have.

    Attention inside a scale carries nothing.
    """

    cache: LayerCache | None = None
    ssm: SSMState | None = None


def memory_bytes(memory: PyTree) -> int:
    """Bytes of all arrays of a memory, which may be `jax.ShapeDtypeStruct`s.

    A policy's calibrated tables do not count: they belong to the model.
    """

    nodes = jax.tree.leaves(memory, is_leaf=lambda node: isinstance(node, LayerCache))
    state = [node.groups if isinstance(node, LayerCache) else node for node in nodes]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
