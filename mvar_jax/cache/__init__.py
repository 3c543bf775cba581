"""What layers carry from scale to scale: values that are passed in and returned."""

from mvar_jax.cache.compression import (
    EVICTING,
    Compression,
    evicts,
    parse_policy,
    prepare_compression,
)
from mvar_jax.cache.kv_cache import KVCache
from mvar_jax.cache.layer_cache import LayerCache
from mvar_jax.cache.layer_memory import LayerMemory, memory_bytes
from mvar_jax.cache.plan import AttentionShape, CachePlan, GroupPlan
from mvar_jax.cache.policies import POLICIES, Policy, Probe, Selection
from mvar_jax.cache.profile import Profile
from mvar_jax.cache.ssm_state import SSMState

__all__ = [
    "EVICTING",
    "POLICIES",
    "AttentionShape",
    "CachePlan",
    "Compression",
    "GroupPlan",
    "KVCache",
    "LayerCache",
    "LayerMemory",
    "Policy",
    "Probe",
    "Profile",
    "SSMState",
    "Selection",
    "evicts",
    "memory_bytes",
    "parse_policy",
    "prepare_compression",
]
