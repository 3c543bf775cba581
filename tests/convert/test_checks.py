"""What fits and what does not, told by the first difference."""

import dataclasses

import numpy as np
import pytest

from mvar_jax.convert.checks import (
    check_official_tokenizer,
    check_tensors,
    official_architecture,
)
from mvar_jax.convert.state_dict import trunk_state
from mvar_jax.models import Trunk
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tensor_files.stored_tensor import StoredTensor
from tests.convert.models import TOKENIZERS, TRUNKS, text_trunk, trunk
from tests.reference import GOLDEN

STATE = trunk_state(TRUNKS["mvar"])


def stored(shape, dtype=np.float32):
    size = int(np.prod(shape))
    return StoredTensor.contiguous(GOLDEN, 0, np.dtype(dtype), shape=tuple(shape), room=size)


TENSORS = {name: stored(item.shape, item.dtype) for name, item in STATE.items()}


def test_a_state_dict_fits_itself_with_and_without_buffers():
    check_tensors(TENSORS, STATE)
    check_tensors({name: TENSORS[name] for name in STATE if STATE[name].is_parameter}, STATE)
    half = {name: stored(item.shape, np.float16) for name, item in STATE.items()}
    check_tensors(half, STATE)


NAME = "blocks.1.attn.proj.bias"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({NAME: None}, r"the tensor blocks\.1\.attn\.proj\.bias of shape \(64,\) is missing"),
        ({NAME: stored((65,))}, r"proj\.bias has shape \(65,\), expected \(64,\)"),
        ({NAME: stored((64,), np.int64)}, r"proj\.bias has dtype int64, expected float32, "),
        ({"lvl_1L": stored((1, 4))}, r"lvl_1L has shape \(1, 4\), expected \(1, 5\)"),
        ({"blocks.0.more": stored((1,))}, r"blocks\.0\.more belongs to no such model"),
    ],
    ids=["missing", "shape", "dtype", "buffer", "left over"],
)
def test_the_first_difference_is_named(changes, words):
    tensors = {name: value for name, value in (TENSORS | changes).items() if value is not None}
    with pytest.raises(ValueError, match=words):
        check_tensors(tensors, STATE)


def test_official_models_are_told_apart():
    assert {name: official_architecture(model) for name, model in TRUNKS.items()} == {
        name: name.partition(" ")[0] for name in TRUNKS
    }
    for config in TOKENIZERS.values():
        check_official_tokenizer(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pattern": ("scale+ssm", "history")}, "official models are of"),
        ({"pattern": ("scale",)}, "no official file can hold this model"),
        ({"norm_epsilon": 1e-5}, r"model\.norm_epsilon: got 1e-05, .* read as 1e-06"),
        ({"qk_norm": False, "heads": 4}, r"model\.heads: got 4, .* read as 1"),
    ],
    ids=str,
)
def test_trunks_that_no_official_file_can_hold(changes, words):
    model = trunk("mvar")
    config = dataclasses.replace(model.config, **changes)
    with pytest.raises(ValueError, match=words):
        official_architecture(Trunk(config, model.schedule, 24, 4))


def test_scales_that_are_no_squares():
    schedule = ScaleSchedule(((1, 1), (2, 8)))  # as many tokens as 4 x 4
    with pytest.raises(ValueError, match="official models have square scales"):
        official_architecture(Trunk(trunk("var").config, schedule, 24, 4))


def test_scales_of_a_trunk_of_texts_may_be_of_any_shape():
    schedule = ScaleSchedule(((1, 1), (2, 3), (3, 5)))
    assert official_architecture(text_trunk(schedule=schedule)) == "infinity"


def test_trunks_of_texts_that_no_official_file_can_hold():
    model = text_trunk()
    for name, value in (
        ("pattern", ("history",)),
        ("pattern", ("scale+ssm+text",)),
        ("positions", "learned"),
        ("shared_modulation", False),
    ):
        config = dataclasses.replace(model.config, **{name: value})
        with pytest.raises(ValueError, match=r"no official file can hold this model"):
            official_architecture(dataclasses.replace(model, config=config))
    with pytest.raises(ValueError, match=r"model\.logits: got 24, .* read as 10"):
        official_architecture(dataclasses.replace(model, logits=24))


def test_levels_without_a_scale_and_rotary_classes():
    model = trunk("var")
    for name, value in (("levels", 5), ("positions", "rotary")):
        config = dataclasses.replace(model.config, **{name: value})
        with pytest.raises(ValueError, match=rf"model\.{name}: got {value!r}"):
            official_architecture(dataclasses.replace(model, config=config))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("vqvae", {"norm_groups": 8}),
        ("vqvae", {"residual_ratio": 0.25}),
        ("bsqvae", {"patch": 2, "image_size": (8, 8)}),
        ("bsqvae", {"attention": True}),
    ],
    ids=str,
)
def test_tokenizers_that_no_official_file_can_hold(name, changes):
    field, *_ = changes
    with pytest.raises(ValueError, match=rf"tokenizer\.{field}: got .* official file cannot say"):
        check_official_tokenizer(dataclasses.replace(TOKENIZERS[name], **changes))
