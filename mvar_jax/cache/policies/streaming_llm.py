"""Keeps the first tokens and the most recent ones."""

from dataclasses import dataclass

import jax.numpy as jnp

from mvar_jax.array_types import Array, Float
from mvar_jax.cache.kv_cache import KVCache
from mvar_jax.cache.plan import GroupPlan
from mvar_jax.cache.policies.base import MOST, Policy, Probe
from mvar_jax.scales import ScaleSchedule


@dataclass(frozen=True)
class StreamingLLM(Policy):
    """StreamingLLM (Xiao et al., arXiv 2309.17453): attention sinks and a window.

    The sinks are the tokens of the first `sink_scales` scales, 5 for the usual schedules.
    """

    name = "streaming_llm"

    sink_scales: int = 2

    def __post_init__(self):
        super().__post_init__()
        self.check_range("sink_scales", 0, MOST)

    def forced(self, schedule: ScaleSchedule) -> int:
        """The sinks."""
        return sum(schedule.lengths[: self.sink_scales])

    def score(
        self, union: KVCache, probe: Probe, group: GroupPlan
    ) -> Float[Array, "batch heads m"]:
        """Sinks first, then the later the better."""
        position = union.position.astype(jnp.float32)
        return jnp.where(position < self.forced(probe.schedule), jnp.inf, position)
