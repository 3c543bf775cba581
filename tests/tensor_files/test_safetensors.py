"""The safetensors format, byte by byte, and files that break its rules."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvar_jax.tensor_files.safetensors import DTYPES, read_safetensors, write_safetensors
from tests.convert import files
from tests.damage import damaged, read_or_refused

PAIR = np.array([[1, -2]], np.float32)


def save(path, tensors):
    about = {name: (array.shape, array.dtype) for name, array in tensors.items()}
    write_safetensors(path, about, iter(tensors.items()))
    return path


def test_a_file_by_hand(tmp_path):
    header = (
        '{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[1,2],"data_offsets":[2,10]},'
    )
    header += '"a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}}   '
    data = b"\x80\x3f" + struct.pack("<ff", 1, -2)
    tensors = read_safetensors(files.write_safetensors(tmp_path / "a", header, data))
    assert list(tensors) == ["b", "a"]
    np.testing.assert_array_equal(np.asarray(tensors["b"]), PAIR)
    assert np.asarray(tensors["a"]) == 1 and tensors["a"].dtype == ml_dtypes.bfloat16


def test_the_bytes_that_are_written(tmp_path):
    path = save(tmp_path / "a", {"b": PAIR, "a": np.array(7, np.int64)})
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    header = json.loads(content[8 : 8 + length])
    assert list(header) == ["b", "a"]
    assert header["b"] == {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
    assert header["a"] == {"dtype": "I64", "shape": [], "data_offsets": [8, 16]}
    assert content[8 + length :] == struct.pack("<ffq", 1, -2, 7)


@pytest.mark.parametrize("kind", DTYPES.values())
def test_every_dtype_comes_back(tmp_path, kind):
    tensors = {"a": np.arange(2).astype(kind), "none": np.zeros((2, 0), kind)}
    tensors["columns"] = np.arange(12).reshape(3, 4).astype(kind).T  # not as it lies in memory
    loaded = read_safetensors(save(tmp_path / "a", tensors))
    for name, array in tensors.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(np.asarray(loaded[name]), array)


def test_arrays_are_written_as_they_come(tmp_path):
    path = tmp_path / "a"

    def arrays():
        for i in range(3):
            assert i == 0 or path.stat().st_size >= 100_000 * (i - 1)
            yield f"{i}", np.zeros(100_000, np.uint8)

    write_safetensors(path, {f"{i}": ((100_000,), np.dtype(np.uint8)) for i in range(3)}, arrays())


def entry(dtype='"F32"', shape="[1,2]", offsets="[0,8]"):
    return f'{{"a":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}'


A = '"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}'
REFUSED = {
    "no JSON": ("{", "header is damaged"),
    "no text": (b"{\xff", "header is damaged"),
    "no object": ("[]", "header is damaged"),
    "deep": ("[" * 100_000, "header is damaged"),
    "repeated name": ("{" + A + "," + A + "}", "occurs twice"),
    "tensor is a list": ('{"a":[]}', "tensor 'a' is described by []"),
    "no dtype": ('{"a":{"shape":[1,2],"data_offsets":[0,8]}}', "tensor 'a'"),
    "unknown dtype": (entry(dtype='"F99"'), "known dtype"),
    "dtype is a list": (entry(dtype="[]"), "known dtype"),
    "negative shape": (entry(shape="[-1,-2]"), "a shape"),
    "fraction in shape": (entry(shape="[1.0,2]"), "a shape"),
    "shape is a number": (entry(shape="2"), "a shape"),
    "too small": (entry(shape="[1]"), "as many bytes"),
    "too large": (entry(shape="[99999999999999,2]"), "as many bytes"),
    "backwards": (entry(offsets="[8,0]"), "as many bytes"),
    "three offsets": (entry(offsets="[0,4,8]"), "as many bytes"),
    "outside": (entry(offsets="[8,16]"), "overlap or leave a gap"),
    "overlap": (
        "{" + A + ',"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        "overlap or leave a gap at byte 0",
    ),
    "rest unused": ("{" + A + "}", "truncated or damaged"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_headers_are_refused(tmp_path, case):
    header, words = REFUSED[case]
    with pytest.raises(ValueError) as error:
        read_safetensors(files.write_safetensors(tmp_path / "a", header, bytes(8)))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_header_beyond_the_file_is_refused(tmp_path):
    path = tmp_path / "a"
    for length in (3, 1 << 20, 1 << 62):
        path.write_bytes(length.to_bytes(8, "little") + b"{}")
        with pytest.raises(ValueError, match=f"should have {length} bytes"):
            read_safetensors(path)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "a"
    return save(path, {"a": PAIR, "b": np.arange(3)}).read_bytes()


def test_truncated_files_are_refused(tmp_path, good):
    for length in range(len(good)):
        (tmp_path / "a").write_bytes(good[:length])
        with pytest.raises(ValueError, match="truncated or damaged"):
            read_safetensors(tmp_path / "a")


@settings(max_examples=200)
@given(st.data())
def test_damaged_files_are_read_or_refused(tmp_path_factory, good, data):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(data.draw(damaged(good)))
    read_or_refused(read_safetensors, path)
