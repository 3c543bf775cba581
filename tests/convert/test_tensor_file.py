"""All tensors of a file or of a folder, in every form that weights are published in."""

import json

import numpy as np
import pytest

from mvar_jax.convert.tensor_file import INDICES, read_tensors
from tests.convert import files

ARRAYS = {"a.weight": np.ones((2, 3), np.float32), "b": np.arange(4), "c.bias": np.zeros(2)}


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_shards_are_read_by_their_folder_and_by_their_index(tmp_path, suffix):
    files.write_shards(tmp_path, ARRAYS, suffix)
    (index,) = tmp_path.glob("*.index.json")
    for path in (tmp_path, index):
        tensors = read_tensors(path)
        assert tensors.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(np.asarray(tensors[name]), array)


def test_a_folder_with_a_single_file_is_that_file(tmp_path):
    files.write_pth(tmp_path / "weights.pth", {"trainer": ARRAYS})
    assert read_tensors(tmp_path).keys() == {f"trainer/{name}" for name in ARRAYS}
    files.write_pth(tmp_path / "more.pth", ARRAYS)
    with pytest.raises(ValueError, match=rf"{tmp_path}: holds 2 files of weights, expected .*\.$"):
        read_tensors(tmp_path)


def test_shards_that_nobody_reads_may_be_missing(tmp_path):
    files.write_shards(tmp_path, ARRAYS)
    (tmp_path / "part-2.safetensors").unlink()
    assert read_tensors(tmp_path, unread=("b",)).keys() == {"a.weight", "c.bias"}


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("part-3.safetensors", "names the shard 'part-3.safetensors', which is not there"),
        ("..", "names the shard '..', which is not there"),
        ("../outside.safetensors", "not an index of shards"),
        ("/etc/passwd", "not an index of shards"),
        (7, "not an index of shards"),
    ],
    ids=str,
)
def test_an_index_that_leads_elsewhere_is_refused(tmp_path, file, words):
    folder = files.write_shards(tmp_path / "weights", ARRAYS)
    files.write_pth(tmp_path / "outside.safetensors", ARRAYS)
    index = folder / INDICES[0]
    places = json.loads(index.read_text())["weight_map"] | {"b": file}
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(ValueError) as error:
        read_tensors(folder)
    message = str(error.value)
    assert message.startswith(f"{index}: ") and words in message and message.endswith(".")


def test_a_shard_without_what_the_index_says_is_refused(tmp_path):
    folder = files.write_shards(tmp_path, ARRAYS)
    index = folder / INDICES[0]
    places = json.loads(index.read_text())["weight_map"] | {"d": "part-1.safetensors"}
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(ValueError, match=r"part-1\.safetensors: d is missing, which model"):
        read_tensors(folder)
