"""A sequence may be split anywhere: the state is all that the state-space layer carries on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.config import ModelConfig
from mvar_jax.convert.layer_names import state_space_entries
from mvar_jax.convert.names import read_params
from mvar_jax.models.block import empty_state
from mvar_jax.models.state_space import StateSpace
from tests.reference import recipe_array, recipe_weights

WIDTH = 128


@pytest.mark.parametrize(("length", "cut"), [(600, 391), (37, 2)])
def test_a_split_sequence_continues_from_its_state(length, cut):
    config = ModelConfig(depth=1, width=WIDTH, heads=2)
    entries = list(state_space_entries("ssm", (), config))
    weights = recipe_weights({entry.official: entry.official_shape for entry in entries})
    params, layer = read_params(entries, weights), StateSpace(config)
    x = jnp.asarray(recipe_array("x", (2, length, WIDTH)))

    @jax.jit
    def run(params, x):
        whole, none = layer.apply({"params": params}, x)
        assert none is None
        empty = empty_state(config, 2, x.dtype)
        _, final = layer.apply({"params": params}, x, empty)
        first, middle = layer.apply({"params": params}, x[:, :cut], empty)
        second, last = layer.apply({"params": params}, x[:, cut:], middle)
        return whole, jnp.concatenate([first, second], axis=1), final, last

    whole, parts, final, last = run(params, x)
    np.testing.assert_allclose(parts, whole, atol=1e-5 * np.abs(whole).max())
    for ours, expected in zip(jax.tree.leaves(last), jax.tree.leaves(final)):
        np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max())
