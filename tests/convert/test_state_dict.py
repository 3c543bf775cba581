"""State dicts have the official names, shapes, dtypes and order, and the official buffers."""

import jax
import numpy as np
import pytest

from mvar_jax.array_types import path_name
from mvar_jax.config import TokenizerConfig
from mvar_jax.config.files import load_config
from mvar_jax.config.tree import from_config_dict
from mvar_jax.convert.names import read_params
from mvar_jax.convert.state_dict import make_tensors, tokenizer_state, trunk_state
from mvar_jax.convert.trunk_names import trunk_entries
from mvar_jax.models import Trunk, build_trunk, example_inputs
from mvar_jax.scales import ScaleSchedule
from tests.convert.manifests import (
    BITWISE,
    TEXT_TRUNKS,
    TRUNKS,
    bitwise_config,
    bitwise_manifest,
    text_trunk,
    tokenizer_manifest,
    trunk_manifest,
)
from tests.convert.models import MODELS, entries_of, official_weights, state_of
from tests.models.weights import trunk_config
from tests.reference import load_golden


def listed(state):
    return [(name, x.shape, str(x.dtype), x.is_parameter) for name, x in state.items()]


@pytest.mark.parametrize("name", TRUNKS)
def test_official_trunks(name):
    about = TRUNKS[name]
    schedule = ScaleSchedule.squares(*about["patch_nums"])
    trunk = Trunk(trunk_config(about), schedule, about["vocab_size"], about["z_channels"])
    assert listed(trunk_state(trunk)) == trunk_manifest(name)


def test_the_preset_of_512_pixels_is_the_official_trunk():
    trunk = build_trunk(from_config_dict(load_config("var_imagenet512.py:d36")))
    assert listed(trunk_state(trunk)) == trunk_manifest("var_d36")
    params = jax.eval_shape(trunk.init, jax.random.key(0), *example_inputs(trunk))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 2353893904


@pytest.mark.parametrize("name", TEXT_TRUNKS)
def test_official_trunks_of_texts(name):
    """Ours of the official size has all tensors, and every parameter here has its place there."""
    trunk, about = text_trunk(name), TEXT_TRUNKS[name]
    assert listed(trunk_state(trunk)) == trunk_manifest(name)
    params = jax.eval_shape(trunk.init, jax.random.key(0), *example_inputs(trunk))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == about["num_parameters"]
    ours = {}
    for entry in trunk_entries(trunk):
        ours.setdefault("/".join(entry.path), []).append(entry)
    assert {path: stacked_shape(entries) for path, entries in ours.items()} == {
        path_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def stacked_shape(entries):
    first = entries[0]
    return first.shape if first.layer is None else (len(entries), *first.shape)


def test_the_official_tokenizer():
    assert listed(tokenizer_state(TokenizerConfig())) == tokenizer_manifest()


@pytest.mark.parametrize("name", BITWISE)
def test_official_bitwise_tokenizers(name):
    about = BITWISE[name]
    state = tokenizer_state(bitwise_config(about))
    assert listed(state) == bitwise_manifest(about)
    mask = state["quantize.lfq.mask"].make({})
    np.testing.assert_array_equal(mask[-14:], 2 ** np.arange(14)[::-1])
    assert len(mask) < 64 or mask[0] == -(2**63)  # as int64 has it


@pytest.mark.parametrize("name", ["mvar_tiny_a_l2", "var_tiny_a_nol2"])
def test_buffers_are_those_of_the_original(name):
    golden = load_golden(name)
    about = golden.config
    schedule = ScaleSchedule.squares(*about["vae_config"]["pn"])
    state = trunk_state(Trunk(trunk_config(about), schedule, 4, 4))
    for buffer in ("lvl_1L", "attn_bias_for_masking"):
        np.testing.assert_array_equal(state[buffer].make({}), golden[buffer])
    assert not np.any(state["blocks.1.attn.zero_k_bias"].make({}))
    if about["kind"] == "mvar":
        lengths = state["blocks.0.attn.patch_nums"].make({})
        assert tuple(lengths) == tuple(side**2 for side in about["vae_config"]["pn"])


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back_is_the_same(name):
    """Official weights that became ours become the official ones again, bit by bit."""
    model = MODELS[name]
    weights, state = official_weights(model), state_of(model)
    tensors = dict(make_tensors(state, read_params(entries_of(model), weights)))
    assert list(tensors) == list(state)
    for name, item in state.items():
        assert tensors[name].shape == item.shape and tensors[name].dtype == item.dtype
        np.testing.assert_array_equal(tensors[name], weights[name], err_msg=name)
