"""Arrays are read as NumPy wrote them, and whatever is wrong with a file is said in a sentence."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from mvar_jax.data.npz import array_names, open_array, read_array

ARRAY = np.random.default_rng(0).normal(size=(5, 40))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "array",
    [ARRAY, np.asfortranarray(ARRAY), np.array(3), np.array("words"), ARRAY[:0], ARRAY > 0],
)
def test_arrays_are_those_that_were_written(tmp_path, save, array):
    save(tmp_path / "a.npz", a=array, b=ARRAY)
    assert array_names(tmp_path / "a.npz") == {"a", "b"}
    found = read_array(tmp_path / "a.npz", "a")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def member(shape, dtype="<f8", data=ARRAY.tobytes()):
    stream = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + data


MEMBERS = {
    "cut off": (member((5, 50)), "a is cut off"),
    "huge": (member((2**40, 2**40)), "a is cut off"),
    "longer": (member((5, 30)), "a goes on behind its last number"),
    "negative": (member((-1, 40)), r"a has the shape \[-1, 40\]"),
    "objects": (member((2,), "|O", pickle.dumps([1, 2])), "a is of Python objects"),
    "garbage": (b"this is no array at all", "a does not begin as an array does"),
    "unclosed": (b"\x93NUMPY\x01\x00\x08\x00{'a': (\n", "a does not begin as an array does"),
    "nothing": (b"", "a does not begin as an array does"),
}


@pytest.mark.parametrize("case", MEMBERS)
def test_what_is_no_array_is_refused(tmp_path, case):
    content, words = MEMBERS[case]
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)
        archive.writestr("b", b"no array")
    assert array_names(tmp_path / "a.npz") == {"a"}
    with pytest.raises(ValueError, match=rf"a\.npz: is damaged or no \.npz \({words}.*again\.$"):
        read_array(tmp_path / "a.npz", "a")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_anywhere_is_an_error_of_one_sentence(tmp_path, save):
    save(tmp_path / "a.npz", a=ARRAY)
    good, file = (tmp_path / "a.npz").read_bytes(), tmp_path / "b.npz"
    for place in range(0, len(good), 7):
        for bad in (good[:place], good[:place] + bytes([good[place] ^ 255]) + good[place + 1 :]):
            file.write_bytes(bad)
            try:
                found = read_array(file, "a") if "a" in array_names(file) else ARRAY
            except ValueError as error:
                assert str(error).startswith(f"{file}: is damaged or no .npz (")
                assert "pickle" not in str(error) and "\n" not in str(error)
            else:  # in a date, say
                np.testing.assert_array_equal(found, ARRAY)


def test_a_header_is_read_without_its_numbers(tmp_path):
    np.savez(tmp_path / "a.npz", a=ARRAY)
    with open_array(tmp_path / "a.npz", "a") as stored:
        assert (stored.shape, stored.dtype, stored.in_columns) == ((5, 40), np.float64, False)
        assert stored.take(16) == ARRAY[0, :2].tobytes()


def test_other_errors_keep_their_words(tmp_path):
    with pytest.raises(FileNotFoundError):
        array_names(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", ARRAY)
    with pytest.raises(ValueError, match=r"a\.npy: is damaged or no \.npz \(File is not a zip"):
        array_names(tmp_path / "a.npy")
