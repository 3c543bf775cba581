"""Training against the original: which parameters decay, and two steps of AdamW."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mvar_jax.config import ModelConfig, OptimizerConfig
from mvar_jax.convert.trunk_names import trunk_entries
from mvar_jax.models import Trunk
from mvar_jax.scales import ScaleSchedule
from mvar_jax.training.losses import trunk_loss
from mvar_jax.training.optimizer import decays, make_optimizer
from mvar_jax.training.state import apply_gradients, create_state
from tests.models.weights import load_reference
from tests.reference import GOLDEN

GROUPS = json.loads((GOLDEN / "param_groups.json").read_text())


@pytest.mark.parametrize("name", GROUPS)
def test_the_same_parameters_decay(name):
    kind, variant = name.split("_")
    config = ModelConfig(
        num_classes=10,
        depth=2,
        width=128,
        heads=2,
        pattern=("scale+ssm",) if kind == "mvar" else ("history",),
        qk_norm=variant != "nol2",
        shared_modulation=variant == "saln",
    )
    trunk = Trunk(config, ScaleSchedule.squares(1, 2), 16, 4)
    inputs = jax.ShapeDtypeStruct((1, 4, 4), jnp.float32)
    labels = jax.ShapeDtypeStruct((1,), jnp.int32)
    params = jax.eval_shape(trunk.init, jax.random.key(0), labels, inputs)["params"]
    ours = decays(params)
    groups = {"decayed": set(), "not_decayed": set()}
    for entry in trunk_entries(trunk):
        flag = leaf(ours, entry.path)
        groups["decayed" if flag else "not_decayed"].add(entry.official)
    assert groups == {group: set(names) for group, names in GROUPS[name].items()}


def test_two_steps_are_the_original_ones():
    reference = load_reference("mvar_tiny_a_l2")
    golden, trunk = reference.golden, reference.trunk
    config = OptimizerConfig(learning_rate=1e-3, schedule="constant", warmup_fraction=0.0)
    optimizer = make_optimizer(config, total_steps=2, batch_size=256)

    def loss(params, smoothing=0.0):
        inputs = jnp.asarray(golden["teacher_input"])
        logits = trunk.apply({"params": params}, jnp.asarray(golden["labels"]), inputs)
        targets = jnp.asarray(golden["gt_idx"])
        return trunk_loss(logits, targets, reference.tokenizer, smoothing)[0]

    @jax.jit
    def step(state):
        value, gradients = jax.value_and_grad(loss)(state.params)
        state = apply_gradients(state, gradients, optimizer)
        return state, value, optax.global_norm(gradients)

    start = reference.params["trunk"]
    state = create_state(start, optimizer)
    state, first, first_norm = step(state)
    state, second, second_norm = step(state)
    golden.check("train_losses", [first, second, jax.jit(loss)(state.params)])
    golden.check("train_grad_norms", [first_norm, second_norm])
    golden.check("loss_ls0p1", jax.jit(lambda params: loss(params, 0.1))(start))
    moved = jax.tree.map(lambda after, before: np.asarray(after) - before, state.params, start)
    golden.check("param_delta_l2_after_2_steps", norms(moved, trunk, golden.param_names))


def norms(tree, trunk, names):
    """L2 norm of every official tensor's part of a tree, in the order of `names`."""
    squares = dict.fromkeys(names, 0.0)
    for entry in trunk_entries(trunk):
        values = leaf(tree, entry.path)
        part = values if entry.layer is None else values[entry.layer]
        squares[entry.official] += np.sum(np.square(part, dtype=np.float64))
    return np.sqrt(list(squares.values()))


def leaf(tree, path):
    for name in path:
        tree = tree[name]
    return tree
