"""PyTorch's files are read as PyTorch wrote them, and hostile ones refused."""

import sys
import types
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvar_jax.convert.pth import MAX_INDEX_BYTES, check_writable, read_pth, write_pth
from tests.convert import files
from tests.convert.files import Call, Strided
from tests.damage import damaged, read_or_refused
from tests.reference import GOLDEN

EIGHT = np.arange(8, dtype=np.float32)


def test_a_file_of_pytorch_itself():
    """Written by PyTorch 2.13: all dtypes, views, a parameter, attributes of the dict."""
    saved = read_pth(GOLDEN / "pytorch.pth")
    tensors = {name: np.asarray(tensor) for name, tensor in saved.pop("tensors").items()}
    assert saved == {
        "epoch": 3,
        "args": {
            "name": "run",
            "rate": 1e-4,
            "sides": (1, 2, 3),
            "size": (4,),
            "big": 2**40,
            "flags": [True, False, None],
        },
    }
    np.testing.assert_array_equal(tensors.pop("plain"), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(tensors.pop("transposed"), np.arange(12).reshape(3, 4).T)
    np.testing.assert_array_equal(tensors.pop("sliced"), [2, 3, 4])
    np.testing.assert_array_equal(tensors.pop("parameter"), [0, 1, 2, 3])
    assert tensors.pop("scalar")[()] == 2.5
    assert tensors.pop("empty").shape == (0, 3)
    assert len(tensors) == 9
    for name, tensor in tensors.items():
        assert tensor.dtype == (ml_dtypes.bfloat16 if name == "bfloat16" else name)
        assert tensor.tolist() == ([False, True] if name == "bool" else [0, 1, 2, 3, 4])


def test_the_files_of_these_tests_are_read_alike(tmp_path):
    tree = {"a": EIGHT, "b": {"c": (1, 2.5, "ü", None, True, [])}}
    saved = read_pth(files.write_pth(tmp_path / "a.pth", tree))
    np.testing.assert_array_equal(saved.pop("a"), EIGHT)
    assert saved == {"b": tree["b"]}


def test_tensors_are_mapped_not_read(tmp_path):
    tensor = read_pth(files.write_pth(tmp_path / "a.pth", {"a": EIGHT}))["a"]
    array = np.asarray(tensor)
    assert not array.flags.owndata and not array.flags.writeable
    assert np.array(tensor).flags.writeable


def written(tree, **settings):
    return lambda path: files.write_pth(path, tree, **settings)


def shape(shape, strides, offset=0):
    return written({"a": Strided(EIGHT, shape, strides, offset)})


REFUSED = {
    "reaches beyond": (shape((9,), (1,)), "needs 9 numbers, but its storage holds 8"),
    "strides beyond": (shape((2, 4), (5, 1)), "needs 9 numbers"),
    "offset beyond": (shape((4,), (1,), 5), "its storage holds 3"),
    "unfolds": (shape((10**9, 8), (0, 1)), "needs 8000000000 numbers"),
    "negative stride": (shape((2,), (-1,)), "numbers from 0 on"),
    "negative offset": (shape((2,), (1,), -1), "not described as"),
    "negative side": (shape((-2,), (1,)), "numbers from 0 on"),
    "text as side": (shape(("2",), (1,)), "no whole numbers"),
    "many axes": (shape((1,) * 17, (1,) * 17), "at most 16"),
    "axes differ": (shape((2, 2), (1,)), "expected as many"),
    "command": (written({"a": Call("os.system", ("exit",))}), "holds 'os.system'"),
    "pickle inside": (written(Call("torch.storage._load_from_bytes", (1,))), "_load_from_bytes"),
    "no tensor": (
        written(Call("torch._utils._rebuild_tensor_v2", (1, 0, (), ()))),
        "not described",
    ),
    "no parameter": (written(Call("torch._utils._rebuild_parameter", (1, 0, ()))), "not a tensor"),
    "compressed": (written({"a": EIGHT}, compression=zipfile.ZIP_DEFLATED), "is compressed"),
    "storage missing": (written({"a": EIGHT}, drop=["archive/data/0"]), "data/0 is missing"),
    "index missing": (written({}, drop=["archive/data.pkl"]), "holds 0 files"),
    "two indices": (written({}, entries={"b/data.pkl": b""}), "holds 2 files"),
    "short storage": (
        written({"a": EIGHT}, entries={"archive/data/0": b"1234"}),
        "has 4 bytes, expected 8 numbers",
    ),
    "big endian": (written({}, entries={"archive/byteorder": b"big"}), "byte order"),
    "large index": (written("a" * MAX_INDEX_BYTES), "expected at most"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_files_are_refused(tmp_path, case):
    write, words = REFUSED[case]
    with pytest.raises(ValueError) as error:
        read_pth(write(tmp_path / "a.pth"))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_zip_bombs_are_refused_unopened(tmp_path):
    zeros = np.zeros(10_000_000, np.float32)
    path = files.write_pth(tmp_path / "a.pth", {"a": zeros}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="is compressed or encrypted"):
        read_pth(path)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "a.pth"
    return files.write_pth(path, {"a": EIGHT, "b": {"c": EIGHT}}).read_bytes()


def test_truncated_archives_are_refused(tmp_path, good):
    path = tmp_path / "a.pth"
    for length in range(2, len(good), 7):
        path.write_bytes(good[:length])
        with pytest.raises(ValueError, match="truncated or damaged"):
            read_pth(path)


@settings(max_examples=100)
@given(st.data())
def test_damaged_archives_are_read_or_refused(tmp_path_factory, good, data):
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(data.draw(damaged(good)))
    read_or_refused(read_pth, path)


def test_writing_is_left_to_pytorch(tmp_path, monkeypatch):
    saved = []
    torch = types.ModuleType("torch")
    torch.from_numpy = lambda array: ("tensor", array)
    torch.save = lambda state, file: saved.append((state, file))
    torch.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "torch", torch)
    check_writable()
    write_pth(tmp_path / "a.pth", iter([("b", EIGHT), ("a", EIGHT)]))
    ((state, file),) = saved
    assert list(state) == ["b", "a"] and file == tmp_path / "a.pth"
    assert state["b"] == ("tensor", EIGHT)


def test_writing_without_pytorch_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs PyTorch; install it, or give .*\.safetensors"):
        check_writable()
