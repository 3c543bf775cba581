"""A new trunk starts as the original does: the rules hold for both."""

import functools
import json
import math

import jax
import numpy as np
import pytest

from mvar_jax.config import InitConfig, ModelConfig, SSMConfig
from mvar_jax.convert.trunk_names import trunk_entries
from mvar_jax.models import Trunk, example_inputs
from mvar_jax.scales import ScaleSchedule
from tests.models.weights import official_arrays
from tests.reference import GOLDEN

OFFICIAL = json.loads((GOLDEN / "init_stats.json").read_text())
SCHEDULE = ScaleSchedule.squares(1, 2, 3)
WIDTH, DEPTH, GATE = 128, 2, 1e-3
DRAWN = ("A_log", "dt_bias")  # drawn from ranges


def mean_and_spread(name, width, depth, gate):
    """The start of a parameter: its mean, and its std or the std of each modulation vector."""
    std = math.sqrt(1 / (3 * width))
    if name.endswith("scale_mul_1H11"):
        return math.log(4), 0.0
    if name.endswith((".D", "norm.weight")):
        return 1.0, 0.0
    if name.endswith("bias"):
        return 0.0, 0.0
    if name.endswith(("attn.proj.weight", "fc2.weight")):
        return 0.0, std / math.sqrt(2 * depth)
    if name.endswith("conv1d.weight"):
        return 0.0, 0.02
    if name == "head.weight":
        return 0.0, 0.02 * std
    if name == "head_nm.ada_lin.1.weight":
        return 0.0, [0.5 * std] * 2
    if name == "shared_ada_lin.1.weight":
        return 0.0, [std] * 6
    if name.endswith("ada_gss"):
        std = 1 / math.sqrt(width)
        return 0.0, [gate * std] * 2 + [0.5 * std] * 4
    if name.endswith("ada_lin.1.weight"):  # M-VAR's third gate is not scaled like the first two
        return 0.0, [gate * std] * 2 + [0.5 * std] * 7
    return 0.0, std


def assert_start(name, count, mean, spreads, expected_mean, expected_spreads):
    """Means and standard deviations within five standard errors; constants to rounding."""
    spreads, expected_spreads = np.atleast_1d(spreads), np.atleast_1d(expected_spreads)
    expected_spreads = expected_spreads[: len(spreads)]
    overall = math.sqrt(np.mean(expected_spreads**2))
    assert abs(mean - expected_mean) <= 5 * overall / math.sqrt(count) + 1e-6, name
    errors = 5 * expected_spreads / math.sqrt(2 * count / len(spreads))
    assert np.all(np.abs(spreads - expected_spreads) <= errors), (name, spreads)


@pytest.mark.parametrize("model", OFFICIAL)
def test_the_rules_hold_for_the_original(model):
    about = OFFICIAL[model]
    for stats in about["params"]:
        name = stats["name"]
        if name.endswith(DRAWN):
            continue
        spreads = stats.get("std_per_chunk", stats["std"])
        rule = mean_and_spread(name, about["width"], about["depth"], about["init_adaln_gamma"])
        assert_start(name, math.prod(stats["shape"]), stats["mean"], spreads, *rule)


KINDS = {"mvar": {}, "var-shared": {"pattern": ("history",), "shared_modulation": True}}


@functools.cache
def new_trunk(kind):
    """A trunk and its parameters at the start; one channel a head gives many heads to count."""
    config = ModelConfig(
        num_classes=20,
        depth=DEPTH,
        width=WIDTH,
        heads=2,
        ssm=SSMConfig(head_dim=1, state_size=16),
        init=InitConfig(gate=GATE),
        **KINDS[kind],
    )
    trunk = Trunk(config, SCHEDULE, logits=64, code_channels=8)
    key = jax.random.key(0, impl="unsafe_rbg")  # compiles in half the time
    return trunk, jax.jit(trunk.init)(key, *example_inputs(trunk))["params"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_rules_hold_for_ours(kind):
    trunk, params = new_trunk(kind)
    for name, array in official_arrays(trunk_entries(trunk), params).items():
        if name.endswith(DRAWN):
            continue
        mean, spreads = mean_and_spread(name, WIDTH, DEPTH, GATE)
        array = np.float64(array)
        if isinstance(spreads, list):
            vectors = array.reshape(-1, WIDTH, array.shape[-1] if "ada_lin" in name else 1)
            found = vectors.std(axis=(1, 2))
        else:
            found = array.std()
        assert_start(name, array.size, array.mean(), found, mean, spreads)


def test_layers_start_differently():
    _, params = new_trunk("mvar")
    for layer in (params["blocks_0"]["ffn"]["up"], params["blocks_0"]["ssm"]["out"]):
        assert not np.any(layer["kernel"][0] == layer["kernel"][1])


def test_steps_and_decays_start_in_mambas_ranges():
    """512 heads: log-uniform steps in [0.001, 0.1], uniform decays in [1, 16]."""
    _, params = new_trunk("mvar")
    ssm = jax.tree.map(np.float64, params["blocks_0"]["ssm"])
    assert ssm["A_log"].shape == ssm["dt_bias"].shape == (DEPTH, 2 * WIDTH)
    for values, low, high in (
        (np.log(np.logaddexp(0, ssm["dt_bias"])), math.log(0.001), math.log(0.1)),
        (np.exp(ssm["A_log"]), 1.0, 16.0),
    ):
        shares = (values - low) / (high - low)
        assert shares.min() > -1e-5 and shares.max() < 1 + 1e-5
        assert len(np.unique(shares)) > 500
        # uniform: the largest distance of the distribution function (Kolmogorov, 1 in 1000)
        places = np.arange(1, shares.size + 1) / shares.size
        assert np.abs(np.sort(shares, axis=None) - places).max() < 1.95 / math.sqrt(shares.size)
    for stats in OFFICIAL["mvar_d16"]["params"]:  # the original's own draws lie there too
        if stats["name"].endswith("A_log"):
            assert 0 <= stats["min"] and stats["max"] <= math.log(16)
        if stats["name"].endswith("dt_bias"):
            steps = np.logaddexp(0, [stats["min"], stats["max"]])
            assert 0.001 <= steps[0] and steps[1] <= 0.1
