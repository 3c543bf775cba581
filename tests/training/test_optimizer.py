"""The optimizer: which parameters decay, and what one update does."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mvar_jax.config import ModelConfig, OptimizerConfig
from mvar_jax.convert.trunk_names import trunk_entries
from mvar_jax.models import Trunk, example_inputs
from mvar_jax.scales import ScaleSchedule
from mvar_jax.training.optimizer import current_learning_rate, decays, make_optimizer
from tests.reference import GOLDEN

PARAMS = {
    "head": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([0.5])},
    "position_embedding": jnp.array([3.0]),
}
GRADIENTS = jax.tree.map(jnp.ones_like, PARAMS)
GROUPS = json.loads((GOLDEN / "param_groups.json").read_text())


def update(config, total_steps=100, batch_size=256, gradients=GRADIENTS, count=1):
    optimizer = make_optimizer(config, total_steps, batch_size)
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(count):
        updates, state = jax.jit(optimizer.update)(gradients, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def test_first_update_is_adam_by_hand():
    config = OptimizerConfig(
        learning_rate=0.01, schedule="constant", warmup_fraction=0.0, clip_norm=1e-3
    )
    params, _ = update(config)
    # Adam's first update is the sign of the gradient, whatever the clipping made of its size.
    for name, value in (("kernel", [1.0, -2.0]), ("bias", [0.5])):
        decay = config.weight_decay if name == "kernel" else 0.0
        expected = np.array(value) - 0.01 * (1 + decay * np.array(value))
        np.testing.assert_allclose(params["head"][name], expected, rtol=1e-4)


def test_gradients_are_clipped_to_their_global_norm():
    config = OptimizerConfig(clip_norm=0.5)
    _, state = update(config)
    moments = optax.tree.get(state, "mu")
    norm = optax.global_norm(moments) / (1 - config.beta1)
    assert float(norm) == pytest.approx(0.5, rel=1e-5)


def test_rates_follow_their_schedules():
    config = OptimizerConfig(
        learning_rate=0.01, schedule="lin00", warmup_fraction=0.5, final_weight_decay=0.01
    )
    for count, share in ((1, 0.005), (3, 0.005 + 0.995 * 2 / 5), (6, 1.0), (10, 0.1)):
        _, state = update(config, total_steps=10, batch_size=512, count=count)
        assert float(current_learning_rate(state)) == pytest.approx(0.02 * share, rel=1e-5)
    assert float(state[1].hyperparams["weight_decay"]) == pytest.approx(0.01, rel=1e-5)


@pytest.mark.parametrize(
    "path",
    [
        "start_position",
        "position_embedding",
        "level_embedding",
        "word_embedding/bias",
        "head_modulation/bias",
        "blocks_0/modulation/bias",
        "blocks_0/modulation_offset",
        "blocks_1/attention/query_bias",
        "blocks_1/attention/value_bias",
        "blocks_1/attention/query_scale",
        "blocks_1/attention/out/bias",
        "blocks_0/ssm/A_log",
        "blocks_0/ssm/dt_bias",
        "blocks_0/ssm/D",
        "blocks_0/ssm/norm_scale",
        "blocks_0/ssm/conv_x/bias",
        "blocks_0/ffn/down/bias",
        "encoder/norm_out/scale",
        "encoder/norm_out/bias",
    ],
)
def test_not_decayed(path):
    assert not flag(path)


@pytest.mark.parametrize(
    "path",
    [
        "class_embedding",
        "word_embedding/kernel",
        "head/kernel",
        "shared_modulation/kernel",
        "blocks_0/modulation/kernel",
        "blocks_0/attention/qkv",
        "blocks_0/ssm/in_dt/kernel",
        "blocks_0/ssm/conv_x/kernel",
        "blocks_0/ssm/out/kernel",
        "quantizer/codebook",
    ],
)
def test_decayed(path):
    assert flag(path)


def flag(path):
    tree = jnp.zeros(3)
    for name in reversed(path.split("/")):
        tree = {name: tree}
    return jax.tree.leaves(decays(tree))[0]


@pytest.mark.parametrize("name", GROUPS)
def test_the_same_parameters_decay_as_in_the_original(name):
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
    params = jax.eval_shape(trunk.init, jax.random.key(0), *example_inputs(trunk))["params"]
    ours = decays(params)
    groups = {"decayed": set(), "not_decayed": set()}
    for entry in trunk_entries(trunk):
        flag = leaf(ours, entry.path)
        groups["decayed" if flag else "not_decayed"].add(entry.official)
    assert groups == {group: set(names) for group, names in GROUPS[name].items()}


def leaf(tree, path):
    for name in path:
        tree = tree[name]
    return tree
