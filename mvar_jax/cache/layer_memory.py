"""The memory of one block, and the bytes that a memory takes."""

import flax.struct
import jax

from mvar_jax.cache.kv_cache import KVCache
from mvar_jax.cache.ssm_state import SSMState
from mvar_jax.typing import PyTree


@flax.struct.dataclass
class LayerMemory:
    """What one block carries from scale to scale; None for a mixer that the block lacks.

    Attention that only reaches its own scale carries nothing.
    """

    cache: KVCache | None = None
    ssm: SSMState | None = None


def memory_bytes(memory: PyTree) -> int:
    """Bytes of all arrays in a memory; shapes and dtypes are enough."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(memory))
