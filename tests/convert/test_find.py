"""Configurations are found from names and shapes."""

import dataclasses

import numpy as np
import pytest

from mvar_jax.config import InitConfig, ModelConfig, SSMConfig, TokenizerConfig, infinity_schedule
from mvar_jax.convert.find_infinity import find_chunks
from mvar_jax.convert.find_tokenizer import find_tokenizer
from mvar_jax.convert.find_trunk import PATTERNS, find_schedule, find_trunk
from mvar_jax.convert.shapes import Shapes
from mvar_jax.convert.state_dict import tokenizer_state, trunk_state
from mvar_jax.models import Trunk
from mvar_jax.scales import VAR_256, VAR_512, ScaleSchedule
from tests.convert import models
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
from tests.convert.models import SCHEDULE, TOKENIZERS
from tests.models.weights import trunk_config

TOKENIZER = TOKENIZERS["vqvae"]


def shapes(state):
    return Shapes({name: item.shape for name, item in state.items()})


@pytest.mark.parametrize("name", TRUNKS)
def test_official_trunks_are_found(name):
    about = TRUNKS[name]
    schedule = ScaleSchedule.squares(*about["patch_nums"])
    manifest = Shapes({name: shape for name, shape, *_ in trunk_manifest(name)})
    found = find_trunk(about["kind"], manifest, schedule)
    assert found == Trunk(trunk_config(about), schedule, about["vocab_size"], about["z_channels"])


@pytest.mark.parametrize("name", TEXT_TRUNKS)
def test_official_trunks_of_texts_are_found(name):
    manifest = Shapes({name: shape for name, shape, *_ in trunk_manifest(name)})
    official = text_trunk(name)
    found = find_trunk("infinity", manifest, official.schedule)
    of_training = {"drop_path_rate": 0.0, "compute_dtype": "float32", "remat": "products"}
    config = dataclasses.replace(official.config, init=InitConfig(), **of_training)
    assert found == Trunk(config, official.schedule, official.logits, official.code_channels)
    assert find_chunks(manifest) == TEXT_TRUNKS[name]["chunks"]


def test_the_official_tokenizer_is_found():
    manifest = Shapes({name: shape for name, shape, *_ in tokenizer_manifest()})
    assert find_tokenizer(manifest, VAR_256) == TokenizerConfig()
    larger = TokenizerConfig(image_size=(512, 512), scales=VAR_512.sizes)
    assert find_tokenizer(manifest, VAR_512) == larger


@pytest.mark.parametrize("name", BITWISE)
def test_official_bitwise_tokenizers_are_found(name):
    about = BITWISE[name]
    manifest = Shapes({name: shape for name, shape, *_ in bitwise_manifest(about)})
    assert find_tokenizer(manifest, infinity_schedule("1", "1M")) == bitwise_config(about)


ODD = ModelConfig(
    num_classes=3,
    depth=2,
    width=128,
    heads=4,
    mlp_ratio=2.5,
    shared_modulation=True,
    ssm=SSMConfig(state_size=8, conv_size=3, expand=1, head_dim=16),
)


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("mvar", {}),
        ("var", {"ssm": SSMConfig()}),
        ("mvar", {"qk_norm": False, "heads": 2, "shared_modulation": False}),
    ],
    ids=str,
)
def test_other_sizes_are_found(architecture, changes):
    config = dataclasses.replace(ODD, pattern=PATTERNS[architecture], **changes)
    trunk = Trunk(config, SCHEDULE, 24, 6)
    assert find_trunk(architecture, shapes(trunk_state(trunk)), SCHEDULE) == trunk


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"shared_convolutions": 0},
        {"shared_convolutions": 1},
        {"shared_convolutions": 3},
        {"attention": False},
        {"channel_multipliers": (2, 1), "blocks_per_level": 2},
        {"channel_multipliers": (1,), "stem_stride": 3, "image_size": (6, 6)},
    ],
    ids=str,
)
def test_other_tokenizers_are_found(changes):
    config = dataclasses.replace(TOKENIZER, **changes)
    assert find_tokenizer(shapes(tokenizer_state(config)), config.schedule) == config


@pytest.mark.parametrize("schedule", [VAR_256, VAR_512, SCHEDULE, ScaleSchedule.squares(3)])
def test_schedules_are_found(schedule):
    levels = np.repeat(np.arange(len(schedule)), schedule.lengths)[None]
    assert find_schedule(levels) == schedule


@pytest.mark.parametrize(
    "levels",
    [[0, 1, 1, 1], [0, 2, 2, 2, 2], [1], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1], [], [0.5], [-1, 0]],
    ids=str,
)
def test_levels_of_no_schedule_are_refused(levels):
    with pytest.raises(ValueError, match=r"its lvl_1L counts .* expected squares that grow"):
        find_schedule(np.array([levels]))


def without(state, *names):
    return Shapes({name: item.shape for name, item in state.items() if name not in names})


def test_missing_tensors_are_named():
    state = trunk_state(Trunk(ODD, SCHEDULE, 24, 6))
    for name in ("head.weight", "blocks.0.ffn.fc1.weight", "blocks.0.mamba.norm.weight"):
        with pytest.raises(ValueError, match=f"the tensor {name} is missing"):
            find_trunk("mvar", without(state, name), SCHEDULE)
    with pytest.raises(ValueError, match=r"encoder\.conv_in\.weight is missing"):
        find_tokenizer(without(tokenizer_state(TOKENIZER), "encoder.conv_in.weight"), SCHEDULE)


def test_texts_need_levels_and_chunks_of_one_length():
    state = trunk_state(models.text_trunk())
    for wrong in (ScaleSchedule.squares(2, 4), ScaleSchedule.squares(1, 2, 3, 4, 5)):
        with pytest.raises(ValueError, match="begins with one token and has levels for 4 scales"):
            find_trunk("infinity", shapes(state), wrong)
    sizes = {name: item.shape for name, item in state.items()}
    with pytest.raises(ValueError, match=r"its chunks have \[1, 2\] blocks, expected as many"):
        find_trunk("infinity", Shapes(sizes | {"block_chunks.1.module.1.x": (1,)}), SCHEDULE)
    with pytest.raises(ValueError, match=r"the tensors block_chunks\.2\.\* are missing"):
        find_chunks(Shapes(sizes | {"block_chunks.3.module.0.x": (1,)}))


def test_numbers_run_on_without_a_gap():
    with pytest.raises(ValueError, match=r"the tensors blocks\.1\.\* are missing"):
        Shapes({"blocks.0.a": (), "blocks.2.a": ()}).count("blocks.")
    with pytest.raises(ValueError, match=r"the tensors blocks\.0\.\* are missing"):
        Shapes({"head": ()}).count("blocks.")


@pytest.mark.parametrize("shape", [(4,), (0, 2), (4, 2, 1)], ids=str)
def test_tensors_of_another_rank_are_named(shape):
    sizes = {"word_embed.weight": shape}
    with pytest.raises(ValueError, match=r"word_embed\.weight has shape .* expected 2 axes"):
        find_trunk("var", Shapes(sizes), SCHEDULE)


def test_state_spaces_that_do_not_divide_are_refused():
    sizes = {name: item.shape for name, item in trunk_state(Trunk(ODD, SCHEDULE, 24, 6)).items()}
    with pytest.raises(ValueError, match="which no Mamba-2 layer has"):
        find_trunk("mvar", Shapes(sizes | {"blocks.0.mamba.dt_bias": (3,)}), SCHEDULE)


def test_a_schedule_of_another_length_is_refused():
    longer = ScaleSchedule.squares(1, 2, 4)
    with pytest.raises(ValueError, match=r"ema_vocab_hit_SV is made for 2 scales.*--schedule"):
        find_tokenizer(shapes(tokenizer_state(TOKENIZER)), longer)
    apart = tokenizer_state(TOKENIZERS["vqvae with one a scale"])
    with pytest.raises(ValueError, match="quant_resi is made for 2 scales"):
        find_tokenizer(without(apart, "quantize.ema_vocab_hit_SV"), longer)
