"""Parameters in safetensors: bit-equal again, and files that are damaged or not what they seem."""

import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from mvar_jax.tensor_files.safetensors import read_safetensors, write_safetensors
from mvar_jax.training.placement import place
from mvar_jax.training.shared import load_shared, save_shared, shared_bytes

PARAMS = {
    "blocks": {"kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7},
    "scale": np.float32([1e-40, -0.0, 3.5]),
}
SHAPES = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, PARAMS))


@pytest.fixture
def file(tmp_path):
    save_shared(tmp_path / "model.safetensors", PARAMS)
    return tmp_path / "model.safetensors"


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def test_parameters_come_back_bit_equal_on_their_devices(file):
    loaded = load_shared(file, SHAPES, verify=True)
    assert bits(loaded) == bits(PARAMS)
    assert jax.tree.structure(loaded) == jax.tree.structure(PARAMS)
    assert all(leaf.committed for leaf in jax.tree.leaves(loaded))
    assert set(read_safetensors(file)) == {"blocks/kernel", "scale"}
    assert file.stat().st_size == shared_bytes(PARAMS)
    file.unlink()  # nothing of it is only mapped
    assert bits(loaded) == bits(place(PARAMS))


def test_sixteen_bits_are_loaded_as_float32(tmp_path):
    halves = jax.tree.map(lambda leaf: leaf.astype(ml_dtypes.bfloat16), PARAMS)
    save_shared(tmp_path / "a.safetensors", halves)
    loaded = load_shared(tmp_path / "a.safetensors", SHAPES, verify=True)
    assert bits(loaded) == bits(jax.tree.map(lambda leaf: leaf.astype(np.float32), halves))


@pytest.mark.parametrize("place", [-1, -30, 20, 0])
def test_any_flipped_bit_is_noticed(file, place):
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{file}: (this file of weights is damag|.* is stored)"):
        load_shared(file, SHAPES)


def test_a_truncated_file_is_damaged(file):
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"damaged \(it has \d+ bytes, expected \d+ by its header"):
        load_shared(file, SHAPES)


def test_a_pickle_is_no_file_of_weights(file):
    shutil.copy(__file__, file)
    with pytest.raises(ValueError, match=r"model.safetensors: this file of weights is damaged"):
        load_shared(file, SHAPES)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"scale": np.zeros(4, np.float32)}, r"params/scale is stored as an array of shape \(4,\)"),
        ({"other": np.zeros(1, np.float32)}, r"params/other is stored as .*, expected nothing"),
        ({"scale": np.zeros(3, np.int32)}, r"scale has dtype int32, expected float32, float16 or"),
    ],
)
def test_arrays_that_the_config_does_not_have_are_refused(file, changed, sentence):
    save_shared(file, PARAMS | changed)
    with pytest.raises(ValueError, match=sentence):
        load_shared(file, SHAPES)


def test_a_missing_array_is_refused(file):
    save_shared(file, {"scale": PARAMS["scale"]})
    with pytest.raises(ValueError, match=r"params/blocks/kernel is stored as nothing, expected"):
        load_shared(file, SHAPES)


def test_a_file_without_checksum_is_loaded_with_a_warning_unless_verified(file, caplog):
    arrays = {"blocks/kernel": PARAMS["blocks"]["kernel"], "scale": PARAMS["scale"]}
    about = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    write_safetensors(file, about, list(arrays.items()))
    assert bits(load_shared(file, SHAPES)) == bits(PARAMS)
    assert "holds no checksum: its arrays were loaded unverified" in caplog.text
    with pytest.raises(ValueError, match=r"holds no checksum, expected one .* leave --verify out"):
        load_shared(file, SHAPES, verify=True)


def test_a_checksum_that_is_no_text_is_not_taken(file):
    header = json.dumps({"__metadata__": {"checksum": 3}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match=r"this file of weights is damaged"):
        load_shared(file, {})
