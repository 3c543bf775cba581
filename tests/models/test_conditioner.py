"""Conditions: only their conditioner looks inside."""

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.models.conditioner import (
    ClassConditioner,
    ClassLabels,
    choose,
    guidance_rows,
    read_condition,
)


def test_class_labels_pick_their_embeddings():
    conditioner = ClassConditioner(jnp.arange(8.0).reshape(4, 2))
    labels = read_condition({"label": jnp.array([2, 0]), "image": jnp.zeros((2, 1))})
    np.testing.assert_array_equal(conditioner.embed(labels).vectors, [[4, 5], [0, 1]])
    np.testing.assert_array_equal(conditioner.null(labels).label, [3, 3])


def test_guidance_rows_are_image_major():
    rows = guidance_rows(ClassLabels(jnp.array([2, 0])), ClassLabels(jnp.array([3, 3])))
    np.testing.assert_array_equal(rows.label, [2, 3, 0, 3])


def test_conditions_of_any_shape_are_chosen_image_by_image():
    """As text will be: features of several tokens, and their mask."""
    one = {"text": jnp.ones((3, 2, 4)), "mask": jnp.ones((3, 2), bool)}
    other = jax.tree.map(jnp.zeros_like, one)
    chosen = choose(jnp.array([True, False, True]), one, other)
    np.testing.assert_array_equal(chosen["text"][:, 0, 0], [1, 0, 1])
    np.testing.assert_array_equal(chosen["mask"][:, 1], [True, False, True])
    assert guidance_rows(one, other)["text"].shape == (6, 2, 4)
