"""PyTorch's files of before version 1.6 are read like later ones, and hostile ones refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvar_jax.convert.early_pth import read_early_pth
from mvar_jax.convert.network_files import LITE_PACKAGE, _package_files
from mvar_jax.convert.tensor_file import read_tensors
from tests.convert import files
from tests.convert.files import Call, Strided
from tests.damage import damaged, read_or_refused

EIGHT = np.arange(8, dtype=np.float32)
TREE = {
    "a": EIGHT,
    "b": {"c": Strided(EIGHT, (2, 2), (4, 1), 1), "d": np.arange(3)},
    "e": np.full((), 2.5),
}


def test_tensors_are_where_they_were_written(tmp_path):
    path = files.write_early_pth(tmp_path / "a.pth", TREE)
    tensors = {name: np.asarray(tensor) for name, tensor in read_tensors(path).items()}
    np.testing.assert_array_equal(tensors.pop("a"), EIGHT)
    np.testing.assert_array_equal(tensors.pop("b/c"), [[1, 2], [5, 6]])
    np.testing.assert_array_equal(tensors.pop("b/d"), [0, 1, 2])
    assert tensors.pop("e")[()] == 2.5 and not tensors


def test_dicts_that_python_2_wrote(tmp_path):
    """As the heads of LPIPS are saved."""
    tree = Call("collections.OrderedDict", ([[b"lin0.weight", EIGHT], [b"lin1.weight", EIGHT]],))
    path = files.write_early_pth(tmp_path / "a.pth", tree)
    tensors = read_tensors(path)
    assert list(tensors) == ["lin0.weight", "lin1.weight"]
    np.testing.assert_array_equal(np.asarray(tensors["lin1.weight"]), EIGHT)
    for pairs in ([[b"a"]], [[1, EIGHT]], 7, [b"ab"]):
        files.write_early_pth(path, Call("collections.OrderedDict", (pairs,)))
        with pytest.raises(ValueError, match="a dict is not made of names and values"):
            read_tensors(path)


def test_a_file_of_pytorch_itself():
    """Written by PyTorch 1.5, in a package of the tests."""
    (path,) = _package_files(LITE_PACKAGE, "models/*.pth")
    tensors = read_tensors(path)
    assert len(tensors) == 296
    np.testing.assert_allclose(np.asarray(tensors["_fc.bias"])[:2], [0.03205391, -0.01598576])
    assert np.asarray(tensors["_bn1.running_var"]).min() > 0


REFUSED = {
    "command": ({"tree": {"a": Call("os.system", ("exit",))}}, "holds 'os.system'"),
    "big endian": ({"little": False}, "expected 1001 with its lowest bytes first"),
    "other keys": ({"keys": ["0", "1", "2", "x"]}, "list of storages is not that of its tensors"),
    "key missing": ({"keys": ["0"]}, "list of storages is not"),
    "keys in a list": ({"keys": ["0", "1", "2", ["3"]]}, "list of storages is not"),
    "long key": ({"keys": ["0", "1", "2", "3" * 999]}, "list of storages is not"),
    "huge shape": ({"tree": {"a": Strided(EIGHT, (1,) * 999, (1,) * 999)}}, "and at most 16"),
    "key twice": ({"keys": ["0", "1", "2", "2"]}, "list of storages is not"),
    "other order": (
        {"keys": ["2", "1", "0", "3"]},
        "storage 2 has another size than its",
    ),
    "reaches beyond": ({"tree": {"a": Strided(EIGHT, (9,), (1,))}}, "its storage holds 8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_files_are_refused(tmp_path, case):
    changes, words = REFUSED[case]
    path = files.write_early_pth(tmp_path / "a.pth", **({"tree": TREE} | changes))
    with pytest.raises(ValueError) as error:
        read_early_pth(path)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert len(str(error.value)) < 400


HOSTILE = {
    "deep": b")" + b"\x85" * 100_000,
    "doubled": b")q\0" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(22)),
    "long": b"\x8b" + (10_000).to_bytes(4, "little") + b"\x7f" * 10_000,
    "global": b"cos\n" + b"x" * 100_000 + b"\n",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_messages_are_short_whatever_a_file_holds(tmp_path, case):
    path, value = tmp_path / "a.pth", b"\x80\x02" + HOSTILE[case] + b"."
    path.write_bytes(files.EARLY + value + b"\x80\x02}.")
    with pytest.raises(ValueError) as error:
        read_early_pth(path)
    assert len(str(error.value)) < 400
    before, _, after = files.write_early_pth(path, {}).read_bytes().rpartition(b"\x80\x02](e.")
    path.write_bytes(before + b"\x80\x02](" + HOSTILE[case] + b"e." + after)
    with pytest.raises(ValueError) as error:
        read_early_pth(path)
    assert len(str(error.value)) < 400


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return files.write_early_pth(tmp_path_factory.mktemp("good") / "a.pth", TREE).read_bytes()


def test_files_that_are_cut_off_are_refused(tmp_path, good):
    path = tmp_path / "a.pth"
    for length in range(20, len(good), 5):
        path.write_bytes(good[:length])
        with pytest.raises(ValueError):
            read_early_pth(path)


@settings(max_examples=100)
@given(st.data())
def test_damaged_files_are_read_or_refused(tmp_path_factory, good, data):
    path = tmp_path_factory.getbasetemp() / "damaged_early.pth"
    path.write_bytes(data.draw(damaged(good)))
    read_or_refused(read_early_pth, path)
