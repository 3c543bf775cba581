"""Pickles of plain values are read; whatever else they hold is refused by name and not run."""

import os
import pickle
import subprocess
import sys
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvar_jax.convert.pickled import unpickle
from tests.damage import damaged, read_or_refused

KNOWN = {"collections.OrderedDict": dict}

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=20,
)


def read(data):
    return unpickle(data, KNOWN, lambda identity: ("loaded", identity))


@given(values, st.sampled_from([2, 3, 4, 5]))
def test_plain_values_are_what_pickle_reads(value, protocol):
    assert read(pickle.dumps(value, protocol)) == value


def test_shared_values_stay_shared():
    inner = [1]
    first, second = read(pickle.dumps([inner, inner], 2))
    assert first is second == inner


def test_known_functions_are_called_and_attributes_ignored():
    state = OrderedDict(weight=1)
    state._metadata = OrderedDict(version=1)
    assert read(pickle.dumps(state, 2)) == {"weight": 1}


def test_persistent_values_are_loaded():
    assert read(b"\x80\x02X\x01\x00\x00\x00aQ.") == ("loaded", "a")


class Evil:
    """Unpickling it runs a command."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("place", ["alone", "as value", "as key"])
def test_a_command_is_refused_by_name_and_not_run(tmp_path, protocol, place):
    trace = tmp_path / "it ran".replace(" ", "_")
    evil = Evil(trace)
    data = pickle.dumps(
        {"alone": evil, "as value": {"a": [evil]}, "as key": {evil: 1}}[place], protocol
    )
    with pytest.raises(ValueError, match=r"it holds '(posix|nt)\.system', expected tensors"):
        read(data)
    assert not trace.exists()
    # The file is as dangerous as it looks.
    command = "import pickle, sys; pickle.load(sys.stdin.buffer)"
    subprocess.run([sys.executable, "-c", command], input=data, check=False, capture_output=True)
    assert trace.exists()


class Holder:
    """Any class of a program's own."""


@pytest.mark.parametrize(
    "value",
    [Holder(), Holder, eval, b"".join, {1, 2}, 3j],
    ids=["instance", "class", "builtin", "method", "set", "complex"],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_what_is_no_plain_value_is_refused(value, protocol):
    with pytest.raises(ValueError, match="expected tensors and plain containers only"):
        read(pickle.dumps(value, protocol))


def test_functions_are_called_only_on_tuples_and_only_when_known():
    for data in (b"\x80\x02NN\x85R.", b"\x80\x02ccollections\nOrderedDict\nNR."):
        with pytest.raises(ValueError, match="damaged"):
            read(data)


def test_keys_too_deep_to_hash_are_refused():
    deep = b"\x80\x02}" + b")" + 100_000 * b"\x85" + b"Ns."
    with pytest.raises(ValueError, match="a tuple as key"):
        read(deep)


DATA = pickle.dumps({"a": [1, 2.5, ("b", None)], "c": OrderedDict(d=True)}, 2)


@pytest.mark.parametrize("length", range(len(DATA)))
def test_a_truncated_pickle_is_refused(length):
    with pytest.raises(ValueError, match=r"damaged|cut off"):
        read(DATA[:length])


@settings(max_examples=200)
@given(damaged(DATA))
def test_a_damaged_pickle_is_read_or_refused(content):
    read_or_refused(read, content)
