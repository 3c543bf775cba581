"""Dummy inputs of a trunk, to initialise its parameters and to infer their shapes."""

import jax.numpy as jnp

from mvar_jax.array_types import Array, Float
from mvar_jax.config import ModelConfig
from mvar_jax.models.conditioner import ClassLabels, Condition
from mvar_jax.models.trunk import Trunk
from mvar_jax.text.features import TextFeatures


def example_inputs(trunk: Trunk, batch: int = 1) -> tuple[Condition, Float[Array, "batch _ code"]]:
    """Zeros for a trunk's teacher-forced pass: a condition, and inputs of all scales."""
    length = trunk.schedule.total - trunk.schedule.lengths[0]
    inputs = jnp.zeros((batch, length, trunk.code_channels), jnp.float32)
    return example_condition(trunk.config, batch, length=1), inputs


def example_condition(config: ModelConfig, batch: int, *, length: int | None = None) -> Condition:
    """Zeros for a condition: classes, or texts of `length` tokens, by default the most."""
    if config.condition == "class":
        return ClassLabels(jnp.zeros(batch, jnp.int32))
    length = config.text.max_length if length is None else length
    features = jnp.zeros((batch, length, config.text.channels), jnp.float32)
    return TextFeatures(features, jnp.ones((batch, length), bool))
