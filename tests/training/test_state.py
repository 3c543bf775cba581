"""The training state: updates, the average of the parameters, and full-size shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mvar_jax.config.recipes import imagenet256
from mvar_jax.config.tree import from_config_dict
from mvar_jax.models import build_trunk, example_inputs
from mvar_jax.training.optimizer import make_optimizer
from mvar_jax.training.state import apply_gradients, create_state

SGD = optax.sgd(0.5)


def test_update_counts_and_moves():
    state = create_state({"w": jnp.array([1.0, 2.0])}, SGD)
    state = apply_gradients(state, {"w": jnp.array([1.0, -1.0])}, SGD)
    assert state.step.dtype == jnp.int32 and int(state.step) == 1
    np.testing.assert_array_equal(state.params["w"], [0.5, 2.5])
    assert state.average is None
    assert state.sampling_params is state.params


def test_average_is_the_moving_average_of_the_parameters():
    decay, values = 0.9, []
    state = create_state({"w": jnp.array(1.0)}, SGD, ema_decay=decay)
    for gradient in (1.0, -3.0, 2.0):
        state = apply_gradients(state, {"w": jnp.array(gradient)}, SGD, ema_decay=decay)
        values.append(float(state.params["w"]))
    expected = 1.0
    for value in values:
        expected = decay * expected + (1 - decay) * value
    np.testing.assert_allclose(state.average["w"], expected, rtol=1e-6)
    assert state.sampling_params is state.average


def test_a_donated_state_with_an_average_trains():
    state = create_state({"w": jnp.ones(4)}, SGD, 0.9)
    step = jax.jit(lambda s: apply_gradients(s, s.params, SGD, ema_decay=0.9), donate_argnums=0)
    state = step(step(state))
    np.testing.assert_allclose(state.params["w"], np.full(4, 0.25))


def test_a_full_size_state_is_four_times_its_parameters():
    config = from_config_dict(imagenet256("d16", ("scale+ssm",), (16,), file="own.py"))
    optimizer = make_optimizer(config.optimizer, 333_800, config.batch_size)

    def start():
        trunk = build_trunk(config)
        params = trunk.init(jax.random.key(0), *example_inputs(trunk))
        return create_state(params["params"], optimizer, 0.9999)

    state = jax.eval_shape(start)
    count = size(state.params)
    assert round(count / 1e6, 1) == 464.2
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    assert size(state.average) == count
    assert 2 * count < size(state.opt_state) < 2 * count + 20  # Adam's moments, and counters


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
