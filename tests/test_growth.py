"""docs/growth.py counts what programs of small models do, and its table says so."""

from dataclasses import replace

import jax
import jax.extend.core
import pytest

from mvar_jax.cache import prepare_compression
from mvar_jax.compilation.traced_program import traced_flops
from mvar_jax.config import Config, ModelConfig
from mvar_jax.evaluation.made_up import made_up_profile
from mvar_jax.models.flops import matmul_flops
from mvar_jax.sampling import Sampler, Weights
from mvar_jax.scales import VAR_1024, VAR_SCHEDULES
from mvar_jax.training.weights import tokenizer_shapes, trunk_shapes
from tests.scripts import script

SIDE = 64  # pixels; 1, 2, 3 and 4 tokens
CONFIG = """
from mvar_jax.config import Config
from mvar_jax.config.tree import to_config_dict

def get_config(pattern):
    config = to_config_dict(Config())
    config.model.update(depth=2, width=16, heads=2, num_classes=3, pattern=(pattern,))
    config.model.ssm.update(state_size=4, head_dim=8)
    config.tokenizer.update(vocabulary=8, code_channels=4)
    config.sampling.top_k = 0
    return config
"""


@pytest.fixture(scope="module")
def growth():
    return script("growth")


@pytest.fixture
def config(tmp_path, growth):
    (tmp_path / "tiny.py").write_text(CONFIG, encoding="utf-8")

    def load(pattern, side=SIDE, **changed):
        loaded = growth.load_config(f"{tmp_path}/tiny.py:{pattern}")
        config = growth.from_config_dict(loaded, Config)
        sized = growth.with_schedule(config, growth.schedule_of(side))
        return replace(sized, model=replace(sized.model, **changed))

    return load


def formula(config):
    tokenizer = config.tokenizer
    return 2 * matmul_flops(config.model, tokenizer.schedule, tokenizer.vocabulary)


def test_the_rule_of_the_scales_gives_the_published_ones(growth):
    assert growth.three_quarters(64) == VAR_1024
    assert growth.schedule_of(256) == VAR_SCHEDULES["256"]
    sides = (1, 2, 3, 4, 5, 6, 8, 10, 13, 18, 23, 31, 41, 54, 72, 96, 128)
    assert growth.schedule_of(2048).sizes == tuple((side, side) for side in sides)


def test_tables_and_plot(growth, config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(growth, "POLICIES", {"HACK": "hack"})  # the others cut no image so small
    names = [f"{tmp_path}/tiny.py:{pattern}" for pattern in ("history", "scale+ssm")]
    growth.main(str(tmp_path / "out"), *names, str(SIDE))
    text = (tmp_path / "out" / "growth.md").read_text(encoding="utf-8")
    assert text.splitlines()[2] in capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    found = {(row[0], row[2]): row for row in rows if len(row) == len(growth.COLUMNS)}
    config = config("history")
    assert float(found[str(SIDE), "VAR"][3]) > 0.99e-12 * formula(config)
    kept = config.tokenizer.schedule.offsets[-1]
    heads_of_all_layers, numbers, position = 2 * 2, 2 * 8, 2
    carried = 2 * heads_of_all_layers * kept * (numbers * 4 + position)
    assert float(found[str(SIDE), "VAR"][5]) == pytest.approx(carried / 1e6, rel=1e-3)
    assert float(found[str(SIDE), "VAR, HACK"][5]) < 0.7 * carried / 1e6
    assert (tmp_path / "out" / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_flops_grow_with_depth_as_the_formula_says(growth, config):
    two, four = config("history"), config("history", depth=4)
    flops = [growth.measure(growth.Model(each)).flops for each in (two, four)]
    assert flops[1] - flops[0] == formula(four) - formula(two)
    assert flops[0] >= formula(two)


def test_time_is_that_of_matmuls_or_of_reading(growth, config, monkeypatch):
    model, chip = growth.Model(config("scale+ssm")), growth.CHIP
    monkeypatch.setattr(growth, "CHIP", replace(chip, memory_bandwidth=1e30))
    found = growth.measure(model)
    assert found.seconds == pytest.approx(found.flops / chip.peak_flops) and found.reading == 0
    monkeypatch.setattr(growth, "CHIP", replace(chip, peak_flops=1e30))
    found = growth.measure(model)
    assert found.seconds == pytest.approx(found.read / chip.memory_bandwidth)
    assert found.reading == len(model.config.tokenizer.scales)
    once, each = growth.weight_bytes(model.config)
    state = found.carried * (found.reading - 1)
    assert found.read == once + found.reading * each + state
    width, itemsize = model.config.model.width, 4
    assert once == itemsize * (width + 1) * (2 * 9 + 2) * width  # adaLN's, of blocks and head


def test_layers_of_mean_lengths_cost_what_all_layers_cost(growth, config, monkeypatch):
    model = growth.Model(config("history"), "hack")
    mean = growth.measure(model)

    def exact(policy, profile, ratio):
        def plan(schedule, shape):
            profile = made_up_profile(schedule, shape)
            return prepare_compression(policy, schedule, shape, profile=profile, ratio=ratio)

        return plan

    monkeypatch.setattr(growth, "policy_plan", exact)
    whole = growth.measure(model)
    assert mean.flops == pytest.approx(whole.flops, rel=2e-2)
    assert mean.carried == pytest.approx(whole.carried, rel=2e-2)


@pytest.mark.parametrize("pattern", ["history", "scale+ssm"])
def test_xla_counts_two_percent_more_at_most(growth, config, pattern):
    """It counts elementwise arithmetic too. One layer of d16 at 256x256, the last scale."""
    d16 = ModelConfig(depth=1, pattern=(pattern,), compute_dtype="bfloat16")
    config = growth.with_schedule(replace(config(pattern), model=d16), VAR_SCHEDULES["256"])
    weights = Weights(trunk_shapes(config), tokenizer_shapes(config))
    *_, last = growth.programs(config, Sampler.of(config), weights)
    lowered = jax.jit(jax.extend.core.jaxpr_as_fun(last)).lower(*last.in_avals)
    assert 1 < lowered.cost_analysis()["flops"] / traced_flops(last.jaxpr) < 1.02


def test_crossings(growth):
    def figures(flops, carried, seconds):
        return growth.Growth(flops, carried, 0, seconds, 0)

    table = {
        "VAR": {256: figures(1, 2, 1.0), 512: figures(3, 4, 1.0)},
        "M-VAR": {256: figures(2, 1, 2.0), 512: figures(2, 1, 2.0)},
    }
    assert list(growth.crossings(table, "M-VAR")) == [("VAR", "512", "256, 512", "nowhere")]
