"""The count of FLOPs: equal to that of the matmuls in the traced program."""

import math
from dataclasses import replace

import jax
import jax.extend.core
import pytest

from mvar_jax.config import ModelConfig, SSMConfig
from mvar_jax.models import Trunk, example_inputs
from mvar_jax.models.flops import matmul_flops
from mvar_jax.scales import VAR_256, ScaleSchedule

SCHEDULE = ScaleSchedule(((1, 1), (2, 3), (4, 4)))
CODES, VOCABULARY, BATCH = 5, 11, 3
CONFIG = ModelConfig(
    num_classes=4,
    depth=2,
    width=16,
    heads=2,
    scan=False,
    ssm=SSMConfig(state_size=4, head_dim=8, chunk=1),
)


def traced_flops(config):
    """FLOPs of all matrix products in the trunk's forward pass of one image."""
    trunk = Trunk(config, SCHEDULE, VOCABULARY, CODES)
    inputs = example_inputs(trunk, BATCH)
    params = jax.eval_shape(trunk.init, jax.random.key(0), *inputs)
    return products(jax.make_jaxpr(trunk.apply)(params, *inputs).jaxpr) / BATCH


def products(jaxpr):
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * depth * math.prod(equation.outvars[0].aval.shape)
        total += sum(products(inner) for inner in jax.extend.core.jaxprs_in_params(equation.params))
    return total


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("pattern", [("history",), ("scale",), ("scale", "history")])
def test_attention_feed_forward_adaln_and_head(pattern, shared):
    config = replace(CONFIG, pattern=pattern, shared_modulation=shared)
    word_embedding = 2 * (SCHEDULE.total - 1) * CODES * config.width
    assert matmul_flops(config, SCHEDULE, VOCABULARY) == traced_flops(config) - word_embedding


def test_state_space_layer():
    # In chunks of one token the program also weighs each token by itself: b c, times x.
    inner = CONFIG.ssm.expand * CONFIG.width
    chunks = CONFIG.depth * SCHEDULE.total * 2 * (CONFIG.ssm.state_size + inner)
    word_embedding = 2 * (SCHEDULE.total - 1) * CODES * CONFIG.width
    expected = traced_flops(CONFIG) - word_embedding - chunks
    assert matmul_flops(CONFIG, SCHEDULE, VOCABULARY) == expected


def test_var_d16_takes_twice_its_weights_a_token_and_its_attention():
    config = ModelConfig(depth=16, width=1024, heads=16, pattern=("history",))
    weights = 16 * 12 * 1024**2 + 1024 * 4096
    attention = (
        16
        * 4
        * 1024
        * sum(own * (offset + own) for own, offset in zip(VAR_256.lengths, VAR_256.offsets))
    )
    adaln = 2 * 1024**2 * (16 * 6 + 2)
    assert matmul_flops(config, VAR_256, 4096) == 2 * 680 * weights + attention + adaln
