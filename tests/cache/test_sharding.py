"""Policies give the same on eight devices as on one."""

import subprocess
import sys

import pytest

from tests.shared import eight_devices

SHARDED = """
import sys
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from mvar_jax.scales import ScaleSchedule
from tests.cache.attention import prepare, random_tokens, run_layers

schedule = ScaleSchedule(((1, 1), (1, 2), (2, 2), (3, 4)))
tokens = random_tokens(schedule, batch=8)
mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
split = NamedSharding(mesh, PartitionSpec(None, "data"))
for name in sys.argv[1].split(","):
    compression = prepare(name, schedule, budget=9)
    alone = run_layers(compression, tokens)
    spread = run_layers(compression, [jax.device_put(part, split) for part in tokens])
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(spread)):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    mixed = spread[0][-1].mixed
    assert len(mixed.sharding.device_set) == 8, (name, mixed.sharding)
    assert mixed.addressable_shards[0].data.shape[0] == 1, (name, mixed.sharding)
    print(name, "equal on", jax.device_count())
"""
SOME = "hack@before,scalekv@after"
OTHERS = (
    "h2o@after,hackpp@before+int8,heatkv@before,snapkv@before,pyramidkv@after,streaming_llm@before,"
    "sliding_window@after,scalekv@before,ams_kv@after"
)


@pytest.mark.parametrize(
    "names", [SOME, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["some", "others"]
)
def test_eight_devices_keep_the_same_tokens(pytestconfig, names):
    result = subprocess.run(
        [sys.executable, "-c", SHARDED, names],
        cwd=pytestconfig.rootpath,
        env=eight_devices(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("equal on 8") == names.count(",") + 1
