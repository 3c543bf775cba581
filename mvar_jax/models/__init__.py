"""The trunk of VAR, M-VAR and their mixtures."""

from mvar_jax.models.block_stack import Memory
from mvar_jax.models.conditioner import ClassLabels, Condition
from mvar_jax.models.examples import example_condition, example_inputs
from mvar_jax.models.trunk import Conditioning, Trunk, build_trunk

__all__ = [
    "ClassLabels",
    "Condition",
    "Conditioning",
    "Memory",
    "Trunk",
    "build_trunk",
    "example_condition",
    "example_inputs",
]
