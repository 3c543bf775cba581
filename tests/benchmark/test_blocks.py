"""Naive forms of the training blocks give the same numbers, at the stated costs."""

import jax
import numpy as np
import pytest

from mvar_jax.benchmark.naive_forms import (
    attention_block,
    forward_and_backward,
    measure,
    state_space_block,
    trunk_block,
)
from mvar_jax.config import ModelConfig, SSMConfig
from mvar_jax.scales import ScaleSchedule

SCHEDULE = ScaleSchedule.squares(1, 2, 3)
CONFIG = ModelConfig(
    num_classes=2, depth=2, width=16, heads=2, ssm=SSMConfig(head_dim=16, state_size=4, chunk=8)
)


BLOCKS = [attention_block, state_space_block, pytest.param(trunk_block, marks=pytest.mark.slow)]


@pytest.mark.parametrize("make", BLOCKS)
def test_both_forms_give_the_same_numbers(make):
    block = make(CONFIG, SCHEDULE, batch=2)
    naive, ours = block.forms.values()
    expected, found = (
        jax.jit(lambda *inputs, f=form: (f(*inputs), forward_and_backward(f)(*inputs)))(
            *block.inputs
        )
        for form in (naive, ours)
    )
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(expected))
    jax.tree.map(_assert_close, found, expected)


@pytest.mark.parametrize("make", [attention_block, state_space_block])
def test_the_fused_kernel_is_given_the_same_problem(make):
    ssm = SSMConfig(expand=1, head_dim=128, state_size=4)
    config = ModelConfig(width=128, heads=1, ssm=ssm, kernels="pallas_tpu")
    block = make(config, ScaleSchedule.squares(1, 2), batch=1)
    expected, _, found = (jax.jit(form)(*block.inputs) for form in block.forms.values())
    _assert_close(found, expected)


def _assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_naive_state_space_layer_holds_all_states():
    costs = measure(state_space_block(CONFIG, SCHEDULE, batch=1), "forward", repeats=1)
    naive, chunked = costs.values()
    assert naive.temporaries >= SCHEDULE.total * 32 * 4 * 4 > chunked.temporaries
    assert all(cost.seconds > 0 and cost.compile_seconds > 0 for cost in costs.values())


@pytest.mark.slow
def test_the_program_prints_a_table(run):
    sizes = ("--config.model.width=64", "--config.model.heads=1", "--config.model.depth=1")
    config = ("--config=mvar_imagenet256.py:d16", "--config.model.compute_dtype=float32")
    result = run("benchmark", "blocks", *config, *sizes, "--repeats=1")
    assert result.returncode == 0, result.stderr
    table = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3 * 2 * 2
    assert "pass 6/6" in result.stderr
    naive = [line.split("|")[5] for line in table[2::2]]
    assert {cell.strip() for cell in naive} == {"1.00"}
