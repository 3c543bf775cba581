"""The state-space layer computes what the original Mamba-2 layer computes, and may be cut."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from mvar_jax.config import ModelConfig, SSMConfig
from mvar_jax.convert.names import read_params
from mvar_jax.convert.trunk_names import state_space_entries
from mvar_jax.models.state_space import StateSpace
from tests.models.weights import official_arrays
from tests.reference import load_golden, recipe_array, recipe_weights

GOLDEN = load_golden("comp_mamba2")
CASES = pytest.mark.parametrize("case", ["c0", "c1"])


@functools.cache
def reference(case):
    """The layer of a case, its table of names, parameters and input."""
    about = GOLDEN.config[case]
    ssm = SSMConfig(about["d_state"], about["d_conv"], about["expand"], about["headdim"])
    config = ModelConfig(depth=1, width=about["d_model"], heads=1, ssm=ssm)
    entries = list(state_space_entries(f"mamba2_{case}", (), config))
    weights = recipe_weights({entry.official: entry.official_shape for entry in entries})
    x = recipe_array(f"input:mamba2_{case}", (about["B"], about["L"], about["d_model"]))
    return StateSpace(config), entries, read_params(entries, weights), jnp.asarray(x)


def check_memory(case, moment, memory):
    """Convolution tails and state; the original keeps one input more than is ever used."""
    name = f"{case}_{moment}_conv_state"
    tails = jnp.concatenate([memory.tail_x, memory.tail_bc], axis=-1)
    np.testing.assert_allclose(
        rearrange(tails, "b taps c -> b c taps"),
        GOLDEN[name][..., 1:],
        rtol=0,
        atol=GOLDEN.tolerance(name),
    )
    GOLDEN.check(f"{case}_{moment}_ssm_state", memory.state)


@CASES
def test_values_states_and_gradients(case):
    layer, entries, params, x = reference(case)
    weights = recipe_array(f"input:mamba2_{case}_loss", x.shape)

    def loss(params, x):
        y, memory = layer.apply({"params": params}, x)
        return jnp.sum(y * weights) / (x.shape[0] * x.shape[1]), (y, memory)

    differentiate = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (gradients, x_gradient), (y, memory) = differentiate(params, x)
    GOLDEN.check(f"{case}_y", y)
    check_memory(case, "final", memory)

    official = official_arrays(entries, gradients)
    names = GOLDEN.config[f"{case}_param_names"]
    assert set(official) == {f"mamba2_{case}.{name}" for name in names}
    norms = [np.linalg.norm(official[f"mamba2_{case}.{name}"]) for name in names]
    GOLDEN.check(f"{case}_grad_l2", norms)
    for name in ("A_log", "dt_bias", "D", "conv1d.weight", "conv1d.bias", "norm.weight"):
        GOLDEN.check(f"{case}_grad__{name}", official[f"mamba2_{case}.{name}"])
    step = max(1, x.shape[1] // 16)
    GOLDEN.check(f"{case}_grad__x_rows", x_gradient[:, ::step])


@CASES
def test_a_cut_sequence_goes_on_where_it_stopped(case):
    layer, _, params, x = reference(case)
    cut = GOLDEN.config[case]["prefix"]

    @jax.jit
    def run(params, x):
        first, middle = layer.apply({"params": params}, x[:, :cut])
        second, last = layer.apply({"params": params}, x[:, cut:], middle)
        return jnp.concatenate([first, second], axis=1), middle, last

    y, middle, last = run(params, x)
    GOLDEN.check(f"{case}_y", y)
    check_memory(case, "prefix", middle)
    check_memory(case, "final", last)
