"""What is drawn follows from seeds and numbers alone, whatever JAX's settings are."""

import json
import os
import subprocess
import sys

from tests.shared import quick_flags

# Each gives other numbers wherever code leaves a choice of generator, form, range or type to JAX.
SETTINGS = {
    "JAX_HIGH_DYNAMIC_RANGE_GUMBEL": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_ENABLE_X64": "1",
}
# Tokens and images of the sampler, a start of training, and what training draws.
DRAW = """
import hashlib, json, jax, numpy as np
from mvar_jax.array_types import in_32_bits
from mvar_jax.training.weights import init_tokenizer, init_trunk
from tests.sampling.test_model import tiny_model
from tests.training.tiny import CONFIG, batch, frozen, trunk_state, trunk_step

def digest(tree):
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(f"{leaf.dtype} {leaf.shape}".encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()

@in_32_bits  # as the two trainings do
def train():
    return trunk_step()(trunk_state(), batch(), frozen())

model = tiny_model()
samples = model.sample([0, 1, 2], seed=4_000_000_000)
*_, streamed = model.stream([0, 1, 2], seed=4_000_000_000)
print(json.dumps({
    "tokens": digest(samples.tokens),
    "images": digest(samples.images),
    "streamed": digest(streamed.tokens),
    "start": digest([init_trunk(CONFIG), init_tokenizer(CONFIG)]),
    "trained": digest(train()),
}))
"""


def drawn(root, **settings):
    result = subprocess.run(
        [sys.executable, "-c", DRAW],
        cwd=root,
        env={**os.environ, "XLA_FLAGS": quick_flags(), **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


def test_settings_of_jax_change_nothing(pytestconfig):
    root = pytestconfig.rootpath
    assert drawn(root, **SETTINGS) == drawn(root)
