"""The count of FLOPs: equal to that of the matmuls in the traced program."""

from dataclasses import replace

import jax
import pytest

from mvar_jax.compilation.traced_program import traced_flops
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


@pytest.fixture(autouse=True)
def scales_apart(monkeypatch):
    """Small scales share a matrix in plain JAX, of which part is masked away."""
    monkeypatch.setattr("mvar_jax.ops._xla_scale_attention.TOKENS_OF_GROUP", 1)


def forward_flops(config):
    """FLOPs of all matrix products in the trunk's forward pass of one image."""
    trunk = Trunk(config, SCHEDULE, VOCABULARY, CODES)
    inputs = example_inputs(trunk, BATCH)
    params = jax.eval_shape(trunk.init, jax.random.key(0), *inputs)
    return traced_flops(jax.make_jaxpr(trunk.apply)(params, *inputs).jaxpr) / BATCH


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("pattern", [("history",), ("scale",), ("scale", "history")])
def test_attention_feed_forward_adaln_and_head(pattern, shared):
    config = replace(CONFIG, pattern=pattern, shared_modulation=shared)
    word_embedding = 2 * (SCHEDULE.total - 1) * CODES * config.width
    assert matmul_flops(config, SCHEDULE, VOCABULARY) == forward_flops(config) - word_embedding


def test_state_space_layer():
    # In chunks of one token the program also weighs each token by itself: b c, times x.
    inner = CONFIG.ssm.expand * CONFIG.width
    chunks = CONFIG.depth * SCHEDULE.total * 2 * (CONFIG.ssm.state_size + inner)
    word_embedding = 2 * (SCHEDULE.total - 1) * CODES * CONFIG.width
    expected = forward_flops(CONFIG) - word_embedding - chunks
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
