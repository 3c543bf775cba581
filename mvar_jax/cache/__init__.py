"""What layers remember between scales: values that are passed in and returned."""

from mvar_jax.cache.kv_cache import KVCache
from mvar_jax.cache.layer_memory import LayerMemory, memory_bytes
from mvar_jax.cache.ssm_state import SSMState

__all__ = ["KVCache", "LayerMemory", "SSMState", "memory_bytes"]
