import json

import jax
import numpy as np
import pytest

from mvar_jax.config import TokenizerConfig
from mvar_jax.convert.tokenizer_names import tokenizer_entries, tokenizer_params
from tests.reference import GOLDEN, recipe_weights

SMALL = TokenizerConfig(
    image_size=(16, 16),
    scales=((1, 1), (4, 4)),
    vocabulary=8,
    code_channels=2,
    base_channels=4,
    channel_multipliers=(1, 2),
    blocks_per_level=1,
    stem_stride=2,
    norm_groups=2,
    shared_convolutions=1,
)


def official_weights(config):
    return recipe_weights({e.official: e.official_shape for e in tokenizer_entries(config)})


def test_the_table_names_every_official_parameter_in_order():
    official = json.loads((GOLDEN / "vae_ch160v4096z32.json").read_text())
    table = [
        (entry.official, list(entry.official_shape))
        for entry in tokenizer_entries(TokenizerConfig())
    ]
    assert table == list(official.items())


def test_every_tensor_arrives_once_and_transposed():
    weights = official_weights(SMALL)
    params = tokenizer_params(weights | {"quantize.ema_vocab_hit_SV": np.zeros((2, 8))}, SMALL)
    assert len(jax.tree.leaves(params)) == len(weights)
    kernel = weights["encoder.down.0.block.0.conv1.weight"]
    ours = params["encoder"]["level_0"]["block_0"]["conv_1"]["kernel"]
    np.testing.assert_array_equal(ours, kernel.transpose(2, 3, 1, 0))
    shortcut = weights["encoder.down.1.block.0.nin_shortcut.weight"][:, :, 0, 0]
    ours = params["encoder"]["level_1"]["block_0"]["shortcut"]["kernel"]
    np.testing.assert_array_equal(ours, shortcut.T)
    assert params["encoder"]["conv_in"]["kernel"].shape == (2, 2, 3, 4)


@pytest.mark.parametrize("shared,name", [(1, "qresi."), (4, "qresi_ls.3."), (0, "1.")])
def test_residual_convolutions_are_named_by_how_they_are_shared(shared, name):
    config = TokenizerConfig(shared_convolutions=shared)
    names = [e.official for e in tokenizer_entries(config) if "quant_resi" in e.official]
    assert len(names) == 2 * (shared or len(config.schedule))
    assert f"quantize.quant_resi.{name}weight" in names


def test_a_state_dict_that_does_not_fit_is_refused():
    weights = official_weights(SMALL)
    without = {name: value for name, value in weights.items() if name != "quant_conv.bias"}
    with pytest.raises(ValueError, match=r"quant_conv\.bias"):
        tokenizer_params(without, SMALL)
    weights["quantize.embedding.weight"] = np.zeros((9, 2))
    with pytest.raises(ValueError, match=r"got shape \(9, 2\), expected \(8, 2\)"):
        tokenizer_params(weights, SMALL)
