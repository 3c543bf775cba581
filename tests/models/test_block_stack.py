"""The stack of blocks: its memory in runs of like layers, and stochastic depth."""

import jax
import numpy as np

from mvar_jax.cache import AttentionShape, prepare_compression
from mvar_jax.config import ModelConfig, SSMConfig
from mvar_jax.models.block_stack import BlockStack
from mvar_jax.ops.noise import image_keys
from mvar_jax.scales import ScaleSchedule

SCHEDULE = ScaleSchedule(((1, 1), (2, 3), (3, 4)))


def stack(*pattern, **changes):
    sizes = {"num_classes": 3, "width": 16, "heads": 2, "ssm": SSMConfig(state_size=8, head_dim=8)}
    return BlockStack(ModelConfig(pattern=pattern, **sizes | changes))


def test_layers_that_remember_alike_are_one_run():
    blocks = stack("scale+ssm", "history", depth=6)
    full = prepare_compression("full", SCHEDULE, AttentionShape(3, 2))
    (run,) = jax.eval_shape(lambda: blocks.empty_memory(4, full))
    state, attention = run.layers
    assert (run.start, run.stop) == (0, 3) and state.cache is attention.ssm is None
    assert state.ssm.state.shape == (3, 4, 4, 8, 8)
    assert attention.cache.groups[0].key.shape == (3, 4, 2, 0, 8)


def test_layers_that_keep_other_numbers_of_tokens_are_runs_of_their_own():
    blocks = stack("history", depth=3)
    unlike = prepare_compression("pyramidkv", SCHEDULE, AttentionShape(3, 2), budget=5, window=1)
    runs = jax.eval_shape(lambda: blocks.empty_memory(4, unlike))
    assert [(run.start, run.stop) for run in runs] == [(0, 1), (1, 2), (2, 3)]
    assert {leaf.shape[0] for leaf in jax.tree.leaves(runs)} == {1}


def test_stochastic_depth_is_keyed_by_layer_and_branch():
    """A block with another branch beside them leaves the draws of attention and FFN as they are."""
    keys = image_keys(0, np.arange(4))
    deep, shallow = (
        stack("scale", depth=depth, drop_path_rate=0.5).draw_drops(keys)[0].draws
        for depth in (4, 2)
    )
    np.testing.assert_array_equal(deep[:2], shallow)
    mixed = stack("scale", "scale+ssm", depth=4, drop_path_rate=0.5).draw_drops(keys)
    for index, drops in enumerate(mixed):
        np.testing.assert_array_equal(drops.draws, deep[index::2])
    draws = deep.reshape(-1)
    assert len(np.unique(draws)) == draws.size
