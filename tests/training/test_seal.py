"""The seal of a directory detects every kind of damage."""

import shutil

import pytest

from mvar_jax.training.seal import SEAL, find_damage, write_seal


@pytest.fixture
def sealed(tmp_path):
    for name in ("params/d/array", "params/index", "data/place", "about"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 10)
    write_seal(tmp_path)
    return tmp_path


def test_whole(sealed):
    assert find_damage(sealed, ("params", "data")) is None


def test_cut_short(sealed):
    path = sealed / "params/d/array"
    path.write_bytes(path.read_bytes()[:-1])
    assert find_damage(sealed, ("params",)) == "params/d/array is not the file that was written"
    assert find_damage(sealed, ("data",)) is None


def test_one_bit_flipped(sealed):
    path = sealed / "params/d/array"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)
    assert find_damage(sealed, ("params",)) == "params/d/array is not the file that was written"


def test_missing(sealed):
    (sealed / "params/index").unlink()
    assert find_damage(sealed, ("params",)) == "params/index is missing"
    assert find_damage(sealed, ("data",)) is None
    (sealed / "about").unlink()
    assert find_damage(sealed, ("data",)) == "about is missing"


def test_a_part_that_a_copy_left_out_is_missed_where_it_is_needed(sealed):
    shutil.rmtree(sealed / "data")
    assert find_damage(sealed, ("params",)) is None
    assert find_damage(sealed, ("params", "data")) == "data/place is missing"


def test_seal_itself_damaged(sealed):
    (sealed / SEAL).write_text("{")
    assert find_damage(sealed, ("params",)) == f"{SEAL} is not the file that was written"


def test_never_sealed(sealed):
    (sealed / SEAL).unlink()
    assert find_damage(sealed, ("params",)) is None
