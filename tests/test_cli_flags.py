"""What flags that several programs have may be, and what is said of anything else."""

from unittest.mock import MagicMock

import jax
import numpy as np
import pytest
from absl import flags

from mvar_jax import cli
from mvar_jax.cli import programs


@pytest.fixture
def given(monkeypatch):
    """Gives a flag a value, as a command line would."""

    def given(define, name, *arguments):
        values = flags.FlagValues()
        define(name, None, "", flag_values=values)
        values(["program", *arguments])
        monkeypatch.setattr(flags, "FLAGS", values)

    return given


@pytest.fixture
def out(given):
    return lambda name: given(flags.DEFINE_string, "out", f"--out={name}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", [0]), ("3,12-15", [3, 12, 13, 14, 15]), (" 4-4, 0", [4, 0]), ("19,0-1", [19, 0, 1])],
)
def test_indices_are_numbers_and_ranges(given, text, expected):
    given(flags.DEFINE_list, "numbers", f"--numbers={text}")
    assert cli.get_indices("numbers", 20) == expected


def test_indices_that_are_not_given_are_all(given):
    given(flags.DEFINE_list, "numbers")
    assert cli.get_indices("numbers", 3) == [0, 1, 2]


@pytest.mark.parametrize("text", ["", "20", "3,", "5-3", "0-20", "-1", "a", "1-2-3", f"0-{10**30}"])
def test_indices_that_there_are_not_are_refused(given, text):
    given(flags.DEFINE_list, "numbers", f"--numbers={text}")
    sentence = f"--numbers: got '{text}', expected numbers from 0 to 19 and ranges"
    with pytest.raises(ValueError, match=sentence):
        cli.get_indices("numbers", 20)


def test_more_indices_than_memory_lists_are_refused(given):
    given(flags.DEFINE_list, "numbers")
    with pytest.raises(ValueError, match=r"--numbers: got 100000000000 of them, expected at most"):
        cli.get_indices("numbers", 10**11)
    given(flags.DEFINE_list, "numbers", "--numbers=99999999998-99999999999")
    assert cli.get_indices("numbers", 10**11) == [10**11 - 2, 10**11 - 1]


@pytest.fixture
def started(monkeypatch):
    """Runs a function as a program whose flags are all given already."""
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    monkeypatch.setattr("sys.argv", ["program"])
    for name in ("_compile_faster_on_cpus", "end_at_once_when_interrupted", "gc", "jax.config"):
        monkeypatch.setattr(f"mvar_jax.cli.programs.{name}", MagicMock())
    return lambda main: programs.run(main, times_compilation=True)


def test_too_little_memory_is_said_in_one_sentence(started, capsys):
    with pytest.raises(SystemExit) as ended:
        started(lambda: np.empty(2**50, np.uint8))
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1
    assert said.startswith("error: this machine has not enough memory (Unable to allocate")


def fill_device():
    raise jax.errors.JaxRuntimeError(
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 137438953472 bytes.\nBuffers:"
    )


def test_a_device_without_memory_is_one_sentence(started, capsys, monkeypatch):
    device = MagicMock(device_kind="NVIDIA H200")
    device.memory_stats.return_value = {"bytes_limit": 120 * 2**30}
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    flags.DEFINE_integer("batch_size", 64, "", flag_values=flags.FLAGS)
    with pytest.raises(SystemExit) as ended:
        started(fill_device)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: NVIDIA H200: the device has not enough memory (120.0 GiB) for this "
        "(RESOURCE_EXHAUSTED: Out of memory while trying to allocate 137438953472 bytes); ask for "
        "less at once, as by a smaller --batch_size or fewer or smaller images.\n"
    )


def test_a_real_device_without_memory_is_one_sentence(started, capsys):
    with pytest.raises(SystemExit) as ended:
        started(lambda: jax.numpy.zeros(2**46).block_until_ready())
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1
    assert said.startswith("error: cpu: the device has not enough memory for this (RESOURCE_EXH")


def test_other_errors_of_xla_keep_their_traceback(started):
    def fail():
        raise jax.errors.JaxRuntimeError("INTERNAL: RESOURCE_EXHAUSTED is only quoted here")

    with pytest.raises(jax.errors.JaxRuntimeError, match="only quoted"):
        started(fail)


def test_a_file_is_found_writable_and_nothing_is_left(out, tmp_path, monkeypatch):
    (tmp_path / "a.PNG").write_bytes(b"old")
    for name in ("a.PNG", "b.json"):
        out(tmp_path / name)
        assert cli.output_file(".png", ".json") == tmp_path / name
        assert cli.output_folder() is None
    monkeypatch.setenv("HOME", str(tmp_path))
    out("~/b.json")
    assert cli.output_file(".json") == tmp_path / "b.json"
    assert [path.name for path in tmp_path.iterdir()] == ["a.PNG"]
    assert (tmp_path / "a.PNG").read_bytes() == b"old"


def test_a_folder_is_found_writable_whether_it_exists_or_not(out, tmp_path):
    (tmp_path / "old.png").mkdir()
    for name in ("old.png", "new/", "deep/er/"):
        out(f"{tmp_path}/{name}")
        assert cli.output_folder() == tmp_path / name
    assert [path.name for path in tmp_path.iterdir()] == ["old.png"]
    assert not list((tmp_path / "old.png").iterdir())


def test_places_that_cannot_be_written_are_named_as_they_were_given(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    for name, sentence in (
        ("a.bmp", "--out: got 'a.bmp', expected a name that ends in .png or .npz."),
        ("folder.png", "--out: folder.png is a directory"),
        ("none/a.png", "--out: got 'none/a.png', whose folder is no directory; make it"),
        ("file/a.png", "--out: got 'file/a.png', whose folder is no directory"),
        ("~nobodyx/a.png", "~nobodyx/a.png: found no home for '~nobodyx'"),
    ):
        out(name)
        with pytest.raises(ValueError) as refused:
            cli.output_file(".png", ".npz")
        assert str(refused.value).startswith(sentence)
    long = "x" * 250 + ".png"
    out(long)
    with pytest.raises(OSError) as caught:
        cli.output_file(".png")
    assert caught.value.filename == long
    out("file/")
    with pytest.raises(NotADirectoryError) as caught:
        cli.output_folder()
    assert caught.value.filename == "file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


PRESET = {"guidance": 4.0, "top_k": 900, "top_p": 0.95}


@pytest.mark.parametrize(
    ("arguments", "vocabulary", "expected"),
    [
        ((), 4096, {}),
        (("--preset=picture",), 4096, PRESET),
        (("--preset=picture",), 128, PRESET | {"top_k": 128}),
        (("--preset=picture", "--guidance=0"), 4096, PRESET | {"guidance": 0.0}),
        (("--preset=picture", "--top_k=128"), 128, PRESET | {"top_k": 128}),
        (("--nosmooth", "--batch_size=7"), 4096, {"smooth": False, "batch_size": 7}),
    ],
)
def test_settings_are_those_of_the_preset_unless_others_are_given(
    monkeypatch, caplog, arguments, vocabulary, expected
):
    values = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", values)
    for name in ("string", "float", "integer", "bool", "enum"):
        define = getattr(flags, f"DEFINE_{name}")

        def own(*arguments, define=define, **keywords):
            return define(*arguments, flag_values=values, **keywords)

        monkeypatch.setattr(flags, f"DEFINE_{name}", own)
    cli.define_settings()
    values(["program", *arguments])
    assert cli.get_settings(vocabulary) == expected
    clamped = vocabulary == 128 and "--top_k=128" not in arguments
    assert ("top_k is 128" in caplog.text) == clamped
