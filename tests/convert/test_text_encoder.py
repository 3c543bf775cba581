"""Text encoders from folders of official weights."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.convert.find_t5 import find_t5
from mvar_jax.convert.shapes import Shapes
from mvar_jax.convert.state_dict import t5_state
from mvar_jax.convert.t5_names import t5_entries
from mvar_jax.convert.text_encoder import find_encoder, load_t5, load_text_encoder
from mvar_jax.text import FLAN_T5
from tests.convert.files import write_pth, write_shards
from tests.convert.manifests import T5S, t5_manifest
from tests.models.weights import official_arrays
from tests.text.builders import CONFIG, save_safetensors, t5_tensors, write_json, write_t5

TENSORS = t5_tensors()
ALIAS = "encoder.embed_tokens.weight"
OTHERS = {  # of a whole model
    "decoder.block.0.layer.0.SelfAttention.q.weight": np.ones((3, 3), np.float32),
    "decoder.embed_tokens.weight": TENSORS["shared.weight"],
    "lm_head.weight": np.ones((2, 2), np.float32),
}


@pytest.mark.parametrize("size", T5S)
def test_official_encoders_map_one_to_one(size):
    manifest = t5_manifest(size)
    assert find_t5(Shapes(manifest)) == FLAN_T5[size]
    state = {name: item.shape for name, item in t5_state(FLAN_T5[size]).items()}
    assert manifest.pop(ALIAS) == manifest["shared.weight"]
    assert list(state.items()) == list(manifest.items())


@pytest.mark.parametrize(
    "write",
    [
        lambda folder, state: save_safetensors(folder / "model.safetensors", state),
        lambda folder, state: write_pth(folder / "pytorch_model.bin", state),
        lambda folder, state: write_pth(folder / "t5.pth", state),
        lambda folder, state: write_shards(folder, state, ".safetensors"),
        lambda folder, state: write_shards(folder, state, ".bin"),
    ],
    ids=["safetensors", "bin", "pth", "safetensors shards", "bin shards"],
)
@pytest.mark.parametrize("names", ["encoder", "both names", "alias alone", "whole model"])
def test_every_kind_of_file_gives_the_same_parameters(write, names, tmp_path):
    state = dict(TENSORS)
    if names != "encoder":
        state[ALIAS] = state["shared.weight"]
    if names == "alias alone":
        del state["shared.weight"]
    if names == "whole model":
        state |= OTHERS
    write(tmp_path, state)
    (tmp_path / "config.json").write_text('{"relative_attention_max_distance": 20}')
    config, tensors = find_encoder(tmp_path)
    assert config == CONFIG
    params = load_t5(config, tensors)
    back = official_arrays(list(t5_entries(config)), params)
    jax.tree.map(np.testing.assert_array_equal, back, TENSORS)


def test_bfloat16_halves_the_memory_and_keeps_norms(tmp_path):
    encoder = load_text_encoder(write_t5(tmp_path / "t5"), dtype="bfloat16")
    for path, leaf in jax.tree_util.tree_leaves_with_path(encoder.params):
        small = any(word in str(path) for word in ("norm", "position_bias"))
        assert leaf.dtype == (jnp.float32 if small else jnp.bfloat16), path
    features = encoder.encode(["a red ball"])
    expected = load_text_encoder(tmp_path / "t5").encode(["a red ball"])
    assert features.features.dtype == np.float32
    np.testing.assert_allclose(features.features, expected.features, atol=0.1)


def test_the_largest_distance_is_that_of_official_models_unless_said(tmp_path):
    save_safetensors(tmp_path / "model.safetensors", TENSORS)
    assert find_encoder(tmp_path)[0].max_distance == 128
    settings = tmp_path / "config.json"
    settings.write_text('{"relative_attention_max_distance": 40, "layer_norm_epsilon": 1e-5}')
    found, _ = find_encoder(tmp_path)
    assert (found.max_distance, found.norm_epsilon) == (40, 1e-5)
    for text, word in (
        ("[]", "not the config of a T5"),
        ('{"layer_norm_epsilon": "1e-6"}', "not the config of a T5"),
        ('{"feed_forward_proj": "relu"}', "'relu', expected 'gated-gelu'"),
    ):
        settings.write_text(text)
        with pytest.raises(ValueError, match=rf"config\.json: .*{word}"):
            find_encoder(tmp_path)


def renamed(old, new):
    return {name.replace(old, new): array for name, array in TENSORS.items()}


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({"a": np.ones(1, np.float32)}, "shared.weight is missing"),
        (renamed("wi_0", "wi"), "as in the first T5"),
        (renamed("block.1", "block.3"), r"block\.1\.\* are missing"),
        (TENSORS | {"encoder.new": np.ones(1, np.float32)}, "encoder.new belongs to no such model"),
        (
            TENSORS | {"encoder.final_layer_norm.weight": np.ones(3, np.float32)},
            r"final_layer_norm.weight has shape \(3,\)",
        ),
    ],
    ids=["other", "first T5", "gap", "more", "shape"],
)
def test_other_models_are_named(state, word, tmp_path):
    write_json(tmp_path)
    save_safetensors(tmp_path / "model.safetensors", state)
    with pytest.raises(ValueError, match=rf"{tmp_path}: .*{word}"):
        load_text_encoder(tmp_path)


def test_what_is_not_there_is_named(tmp_path):
    def refused(word):
        with pytest.raises(ValueError, match=word):
            load_text_encoder(tmp_path)

    with pytest.raises(ValueError, match="no such folder, expected one with a T5, or 'wordllama'"):
        load_text_encoder(tmp_path / "none")
    refused("holds neither tokenizer.json nor spiece.model")
    write_json(tmp_path)
    refused("holds 0 files of weights, expected model.safetensors or")
    for index in ('{"weight_map": {"a": "../b"}}', "{", '{"weight_map": []}', "[]"):
        (tmp_path / "model.safetensors.index.json").write_text(index)
        refused("not an index of shards")
    write_shards(tmp_path, TENSORS, ".safetensors")
    shutil.copy(tmp_path / "part-1.safetensors", tmp_path / "part-2.safetensors")
    refused("is missing, which model.safetensors.index.json says is there")
    (tmp_path / "part-2.safetensors").unlink()
    refused(r"names the shard 'part-2\.safetensors', which is not there; fetch it too\.")


def test_a_tokenizer_of_more_tokens_than_the_weights_have_is_refused(tmp_path):
    save_safetensors(
        write_t5(tmp_path / "t5") / "model.safetensors",
        TENSORS | {"shared.weight": TENSORS["shared.weight"][:20]},
    )
    with pytest.raises(ValueError, match="but its weights have 20; copy the tokenizer"):
        load_text_encoder(tmp_path / "t5")
