"""Conditions, class labels or texts, and how the trunk embeds labels.

A condition is a pytree whose arrays count images along their first axis. Only its conditioner
looks inside: all other code passes conditions on, repeats them or indexes images of them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import flax.struct
import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Bool, Leaf, PyTree
from mvar_jax.text.features import TextFeatures


@flax.struct.dataclass
class ClassLabels:
    """One class per image."""

    label: Leaf  # int32 [batch], class indices; `num_classes` stands for no class


Condition: TypeAlias = ClassLabels | TextFeatures


class Text(NamedTuple):
    """Texts as cross-attention reads them."""

    tokens: Array  # float32 [batch, length, width]
    mask: Array  # bool [batch, length], true for tokens


class Embedded(NamedTuple):
    """What the blocks take from a condition."""

    vectors: Array  # float32 [batch, width]: they modulate all blocks and start the first scale
    text: Text | None = None


@runtime_checkable
class Conditioner(Protocol):
    """What embeds the conditions of one kind."""

    def null(self, condition: Any) -> Any:
        """The unconditional condition for as many images."""

    def embed(self, condition: Any) -> Embedded:
        """What the blocks take from the conditions."""


@flax.struct.dataclass
class ClassConditioner:
    """Embeds class labels: a vector for every class, the last one for no class."""

    class_embedding: Leaf  # float32 [num_classes + 1, width]

    def null(self, condition: ClassLabels) -> ClassLabels:
        """The condition "no class" for as many images."""
        no_class = self.class_embedding.shape[0] - 1
        return ClassLabels(jnp.full_like(condition.label, no_class))

    def embed(self, condition: ClassLabels) -> Embedded:
        """The embeddings of the classes."""
        return Embedded(self.class_embedding[condition.label])


def read_condition(batch: Mapping[str, Array]) -> Condition:
    """The condition of the images of a training batch."""
    if "features" in batch:
        return TextFeatures(batch["features"], batch["mask"])
    return ClassLabels(batch["label"])


def choose(chosen: Bool[Array, "batch"], condition: PyTree, other: PyTree) -> PyTree:
    """Selects one of two conditions for every image: `condition` where `chosen`, else `other`."""

    def leaf(a, b):
        return jnp.where(chosen.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(leaf, condition, other)


def guidance_rows(condition: PyTree, null: PyTree) -> PyTree:
    """Two rows for every image, its condition and the other: image-major `[batch, 2]`."""

    def leaf(a, b):
        return jnp.stack([a, b], axis=1).reshape(-1, *a.shape[1:])

    return jax.tree.map(leaf, condition, null)
