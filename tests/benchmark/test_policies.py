"""Costs of policies that are known without running anything."""

import jax.numpy as jnp
import pytest

from mvar_jax.benchmark.policies import block_memory
from mvar_jax.cache import AttentionShape, prepare_compression
from mvar_jax.evaluation.made_up import made_up_profile
from mvar_jax.scales import ScaleSchedule

SCHEDULE, SHAPE = ScaleSchedule.squares(1, 2, 4, 6, 9), AttentionShape(2, 4)


@pytest.mark.parametrize("name", ["full", "streaming_llm", "pyramidkv@after", "full+int8"])
def test_a_block_holds_what_the_plan_says(name):
    """The compiled program takes the cache in, and a copy of what its queries see."""
    ratio = None if name.startswith("full") else 0.6
    settings = {"window": 4} if "pyramid" in name else {}
    compression = prepare_compression(
        name,
        SCHEDULE,
        SHAPE,
        ratio=ratio,
        profile=made_up_profile(SCHEDULE, SHAPE),
        **settings,
    )
    memory = block_memory(compression, 16, jnp.dtype("float32"))
    seen = max(sum(g.heads * g.attend[-1] for g in layer) for layer in compression.plan.layers)
    assert memory.attended == 2 * seen * 2 * 16 * 4
    kept = max(sum(g.heads * g.keep[-2] for g in layer) for layer in compression.plan.layers)
    token = 2 * 16 + 2 + 8 if "int8" in name else 2 * 16 * 4 + 2
    assert memory.inherited == 2 * kept * token
    arguments = memory.inherited + 3 * 2 * 4 * 81 * 16 * 4  # query, key, value
    assert memory.total >= arguments + memory.temporaries


def test_the_program_times_all_scales_under_a_policy(run):
    scales = "((1,1),(2,2),(3,3),(4,4),(6,6),(8,8))"
    result = run(
        *("benchmark", "policies", "--config=shapes.py:var64", "--policies=streaming_llm"),
        *("--config.model.depth=1", f"--config.tokenizer.scales={scales}", "--repeats=1"),
    )
    assert result.returncode == 0, result.stderr
    header, _, full, policy = result.stdout.splitlines()[-4:]
    assert header.count("|") == full.count("|") == policy.count("|") == 9
    assert full.split("|")[7].strip() == "1.00"
