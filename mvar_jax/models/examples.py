"""Inputs of a trunk, of no meaning: to create its parameters, and to know their shapes."""

import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Int
from mvar_jax.models.trunk import Trunk


def example_inputs(
    trunk: Trunk, batch: int = 1
) -> tuple[Int[Array, "batch"], Float[Array, "batch _ code"]]:
    """Zeros as a trunk's teacher-forced pass takes them: labels, and inputs of all scales."""
    length = trunk.schedule.total - trunk.schedule.lengths[0]
    return jnp.zeros(batch, jnp.int32), jnp.zeros((batch, length, trunk.code_channels), jnp.float32)
