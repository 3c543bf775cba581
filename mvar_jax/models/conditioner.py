"""What an image is of: conditions, and what the trunk makes of them.

A condition is a pytree whose arrays count images along their first axis. Only the conditioner of
its kind looks inside: everything else passes it on, repeats it or picks images of it.
"""

from collections.abc import Mapping
from typing import TypeAlias

import flax.struct
import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Bool, Float, Leaf, PyTree


@flax.struct.dataclass
class ClassLabels:
    """A class for every image."""

    label: Leaf  # int32 [batch], class indices; `num_classes` stands for no class


Condition: TypeAlias = ClassLabels


@flax.struct.dataclass
class ClassConditioner:
    """What a trunk makes of class labels: a vector for every class, the last one for no class."""

    class_embedding: Leaf  # float32 [num_classes + 1, width]

    def null(self, condition: ClassLabels) -> ClassLabels:
        """The condition of as many images of nothing in particular."""
        no_class = self.class_embedding.shape[0] - 1
        return ClassLabels(jnp.full_like(condition.label, no_class))

    def vectors(self, condition: ClassLabels) -> Float[Array, "batch width"]:
        """What modulates all blocks, and starts the first scale; float32."""
        return self.class_embedding[condition.label]


def read_condition(batch: Mapping[str, Array]) -> Condition:
    """What the images of a batch of the data are of."""
    return ClassLabels(batch["label"])


def choose(chosen: Bool[Array, "batch"], condition: PyTree, other: PyTree) -> PyTree:
    """For every image one of two conditions: the first where `chosen`."""

    def leaf(a, b):
        return jnp.where(chosen.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(leaf, condition, other)


def guidance_rows(condition: PyTree, null: PyTree) -> PyTree:
    """Two rows for every image, with and without its condition: image-major `[batch, 2]`."""

    def leaf(a, b):
        return jnp.stack([a, b], axis=1).reshape(-1, *a.shape[1:])

    return jax.tree.map(leaf, condition, null)
