"""The program that encodes prompts ahead."""

import numpy as np
import pytest

from mvar_jax.text import read_features
from tests.text.builders import SENTENCES, write_t5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_t5(tmp_path_factory.mktemp("encoders") / "tiny-t5")


def test_prompts_of_a_file_are_encoded(run, folder, tmp_path):
    lines = [*SENTENCES[:2], "", "Bär " * 600]
    (tmp_path / "prompts.txt").write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    files = (f"--prompts={tmp_path / 'prompts.txt'}", f"--out={tmp_path / 'new' / 'features'}")
    result = run("encode_text", f"--encoder={folder}", *files)
    assert result.returncode == 0, result.stderr
    assert "The features of 4 prompts" in result.stdout and "32 channels, float32" in result.stdout
    assert "encode: prompt 4/4" in result.stderr
    assert result.stderr.count("1 of 4 prompts have more than 512 tokens") == 1
    features = read_features(tmp_path / "new" / "features", verify=True)
    assert features.prompts == tuple(lines) and features.lengths[2:].tolist() == [1, 512]
    assert len(features.manifest.encoder_checksum) == 64 and features.name == "tiny-t5"
    two = (
        *(f"--prompt={line}" for line in lines[:2]),
        "--dtype=bfloat16",
        "--stored_dtype=float16",
    )
    result = run("encode_text", f"--encoder={folder}", *two, f"--out={tmp_path / 'half'}")
    assert result.returncode == 0, result.stderr
    half = read_features(tmp_path / "half")
    assert half.prompts == tuple(lines[:2]) and half.data.dtype == np.float16
    difference = half.encode(lines[:2]).features - features.encode(lines[:2]).features
    assert 0 < np.abs(difference).max() < 0.1


BAD = {
    "no encoder": ("--encoder={new} --prompt=a --out={new}", "no such folder"),
    "no tokenizer": ("--encoder={root} --prompt=a --out={new}", "neither tokenizer.json"),
    "no prompt": ("--encoder={folder} --out={new}", "got both or neither"),
    "both": ("--encoder={folder} --prompt=a --prompts={text} --out={new}", "got both or neither"),
    "no file": ("--encoder={folder} --prompts={new}.txt --out={new}", "No such file"),
    "empty": ("--encoder={folder} --prompts={text} --out={new}", "is empty"),
    "not text": ("--encoder={folder} --prompts={data} --out={new}", "no text in UTF-8"),
    "there": ("--encoder={folder} --prompt=a --out={root}", "exists, expected a new folder"),
    "dtype": ("--encoder={folder} --prompt=a --dtype=int8 --out={new}", "int8"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence(run, folder, tmp_path, case):
    arguments, word = BAD[case]
    text, data = tmp_path / "empty.txt", tmp_path / "data.txt"
    text.touch()
    data.write_bytes(b"\xff\xfe\x80")
    paths = {"folder": folder, "root": tmp_path, "text": text, "data": data}
    words = arguments.format(**paths, new=tmp_path / "new").split()
    result = run("encode_text", *words)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert word in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"empty.txt", "data.txt"}
