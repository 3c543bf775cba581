"""The model that is meant is found in a file, wherever it lies in it."""

import numpy as np
import pytest

from mvar_jax.convert.find_model import find_state_dict
from mvar_jax.tensor_files.safetensors import write_safetensors
from tests.convert import files

ONE = np.ones((1, 2), np.float32)
VAR = {"pos_1LC": ONE, "blocks.0.ffn.fc1.bias": ONE}
MVAR = {**VAR, "blocks.0.mamba.D": ONE}
VQVAE = {"quantize.embedding.weight": ONE, "encoder.conv_in.bias": ONE}
INFINITY = {"text_proj_for_sos.ca.mat_q": ONE, "blocks.0.ada_gss": ONE}
BSQVAE = {"encoder.conv_in.conv.weight": ONE, "decoder.norm_out.norm.bias": ONE}
OPTIMIZER = {"state": {0: {"exp_avg": ONE, "step": 3.0}}, "param_groups": [{"lr": 0.1}]}


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def find(folder, tree, architecture=None):
    return find_state_dict(files.write_pth(folder / "a.pth", tree), architecture)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("var", VAR),
        ("mvar", MVAR),
        ("infinity", INFINITY),
        ("vqvae", VQVAE),
        ("bsqvae", BSQVAE),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: prefixed("module.", state),
        lambda state: {"trainer": {"var_wo_ddp": state, "var_opt": OPTIMIZER}, "epoch": 3},
        lambda state: {"trainer": {"x": prefixed("module._orig_mod.", state)}, "args": {"b": 1}},
        lambda state: prefixed("model.", state) | {"other": ONE},
        lambda state: state | {"optimizer": {"exp": ONE}},
    ],
    ids=["flat", "module", "nested", "both", "flat beside others", "dict beside"],
)
def test_models_are_found(tmp_path, name, state, wrap):
    found = find(tmp_path, wrap(state))
    assert found.architecture == name
    assert list(found.tensors) == list(state)
    for tensor in found.tensors.values():
        np.testing.assert_array_equal(np.asarray(tensor), ONE)


def test_the_architecture_chooses_between_two(tmp_path):
    both = {"trainer": {"var_wo_ddp": MVAR, "vae_local": VQVAE}}
    assert find(tmp_path, both).architecture == "mvar"
    assert list(find(tmp_path, both, "vqvae").tensors) == list(VQVAE)
    with pytest.raises(ValueError, match=r"a\.pth: holds the weights of mvar, vqvae, expected var"):
        find(tmp_path, both, "var")


def test_names_without_wrappers_are_those_with_them(tmp_path):
    short = {
        "encoder.conv_in.weight": ONE,
        "encoder.down.0.downsample.conv.bias": ONE,
        "decoder.up.1.block.2.norm1.weight": ONE,
        "quantizer.lfq.mask": ONE,
    }
    found = find(tmp_path, {"vae": short, "epoch": 3})
    assert found.architecture == "bsqvae"
    assert list(found.tensors) == [
        "encoder.conv_in.conv.weight",
        "encoder.down.0.downsample.conv.conv.bias",
        "decoder.up.1.block.2.norm1.norm.weight",
        "quantizer.lfq.mask",
    ]


def test_the_format_is_told_by_content_not_by_name(tmp_path):
    path = tmp_path / "weights.pth"
    about = {name: (array.shape, array.dtype) for name, array in VAR.items()}
    write_safetensors(path, about, VAR.items())
    assert find_state_dict(path).architecture == "var"


def test_several_models_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds several models var: ema/, model/; save the one"):
        find(tmp_path, {"model": VAR, "ema": VAR})


def test_the_average_is_meant_where_there_is_one(tmp_path):
    average = {name: tensor + 1 for name, tensor in INFINITY.items()}
    for wrap in (lambda state: state, lambda state: prefixed("module.", state)):
        trainer = {"gpt_fsdp": wrap(INFINITY), "gpt_ema_fsdp": wrap(average), "gpt_opt": OPTIMIZER}
        found = find(tmp_path, {"trainer": trainer, "epoch": 3})
        assert found.architecture == "infinity" and found.averaged
        np.testing.assert_array_equal(np.asarray(found.tensors["blocks.0.ada_gss"]), ONE + 1)
    found = find(tmp_path, {"trainer": {"gpt_fsdp": INFINITY, "gpt_ema_fsdp": None}})
    assert list(found.tensors) == list(INFINITY) and not found.averaged
    with pytest.raises(ValueError, match="holds several models infinity: gpt_ema_fsdp/, other/;"):
        find(tmp_path, {"gpt_fsdp": INFINITY, "gpt_ema_fsdp": average, "other": INFINITY})


def test_two_trunks_are_told_apart_by_the_architecture(tmp_path):
    both = {"a": INFINITY, "b": VAR}
    with pytest.raises(ValueError, match="holds the weights of infinity, var; say which"):
        find(tmp_path, both)
    assert list(find(tmp_path, both, "var").tensors) == list(VAR)


def test_other_models_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds none of .*pos_1LC.*; it begins with fc/weight\."):
        find(tmp_path, {"fc": {"weight": ONE}})
    with pytest.raises(ValueError, match="it begins with no tensor"):
        find(tmp_path, {})
    with pytest.raises(ValueError, match="it begins with no tensor"):
        find(tmp_path, [1, 2])


def test_tensors_that_share_their_numbers_are_no_bomb(tmp_path):
    numbers = np.ones(10_000, np.float32)
    blocks = {f"blocks.{i}.ada_gss": files.Strided(numbers, (10_000,), (1,)) for i in range(50)}
    with pytest.raises(ValueError, match="its tensors take 2000008 bytes, more than the file's"):
        find(tmp_path, blocks | {"pos_1LC": ONE})


NO_WEIGHTS = {
    b"": "is empty",
    b"\n <!DOCTYPE html><html>Sign in</html>": "is an HTML page",
    b"\xef\xbb\xbf<html>": "is an HTML page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:1": "git lfs pull",
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": "is damaged",
    b"\x89PNG\r\n": "is neither of PyTorch nor",
    b"PK\3\4": "truncated or damaged",
}


@pytest.mark.parametrize("content", NO_WEIGHTS, ids=NO_WEIGHTS.values())
def test_what_is_no_weights_is_told_in_a_sentence(tmp_path, content):
    path = tmp_path / "vae.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        find_state_dict(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and message.endswith(".") and "\n" not in message
    assert NO_WEIGHTS[content] in message
