"""Samples are exactly as many as asked for, and the same however they came about."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

from mvar_jax.evaluation.samples import Layout, SampleDrawing, SampleManifest, writing
from mvar_jax.evaluation.samples.archive import write_archive
from mvar_jax.evaluation.samples.parts import Parts
from mvar_jax.files import file_checksum, names_below
from mvar_jax.pictures.pixels import to_uint8
from mvar_jax.training import lock
from mvar_jax.training.lock import RunLock
from tests.evaluation.samples import tiny
from tests.evaluation.samples.tiny import drawing, write
from tests.sampling.test_model import tiny_model
from tests.shared import eight_devices, quick_flags


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """A folder of 11 samples; do not write there."""
    out = tmp_path_factory.mktemp("samples") / "whole"
    write(drawing(model), out)
    return out


def images(out):
    with np.load(out / "samples.npz") as arrays:
        assert arrays.files == ["arr_0"]
        return arrays["arr_0"]


def contents(out):
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_they_are_those_of_the_model_and_classes_are_in_turn(model, whole):
    made = images(whole)
    assert made.shape == (11, 8, 12, 3) and made.dtype == np.uint8
    expected = to_uint8(model.sample([number % 3 for number in range(11)]).images)
    np.testing.assert_allclose(made.astype(int), expected, atol=1)


def test_the_folder_holds_the_archive_and_a_manifest_alone(model, whole):
    assert sorted(path.name for path in whole.iterdir()) == ["manifest.json", "samples.npz"]
    values = json.loads((whole / "manifest.json").read_text())
    assert values["finished"] and values["sha256"] == file_checksum(whole / "samples.npz")
    assert values["settings"]["sampling"]["top_p"] == 0.9 and values["settings"]["count"] == 11
    (member,) = zipfile.ZipFile(whole / "samples.npz").infolist()
    assert member.date_time == (1980, 1, 1, 0, 0, 0) and member.compress_type == zipfile.ZIP_STORED


def test_two_runs_do_not_draw_into_one_folder(model, whole, tmp_path):
    out = tmp_path / "samples"
    SampleManifest(drawing(model).describe(), tiny.HERE).claim(out)
    with RunLock(out), pytest.raises(ValueError, match="another run writes here"):
        write(drawing(model), out)
    write(drawing(model), out)
    assert contents(out).keys() == {out / path.name for path in whole.iterdir()}


def test_a_refused_run_changes_nothing_of_the_one_that_draws(model, tmp_path):
    out, plan = tmp_path / "samples", SampleManifest(drawing(model).describe(), tiny.HERE)
    with RunLock(out):
        plan.claim(out)
        (out / "features").mkdir()
        before = contents(out)
        with pytest.raises(ValueError, match="another run writes here"):
            write(drawing(model, guidance=3.0), out)
        assert contents(out) == before and (out / "features").is_dir()


def test_a_run_killed_before_its_manifest_leaves_no_folder_of_something_else(model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.lock").touch()
    write(drawing(model), tmp_path / "out")
    assert len(images(tmp_path / "out")) == 11


def test_written_again_nothing_is_drawn_or_changed(model, whole, monkeypatch):
    before = contents(whole)
    monkeypatch.setattr(SampleDrawing, "draw", None)
    assert write(drawing(model), whole, {"device": "another"}) is None
    assert contents(whole) == before


def test_another_number_of_images_begins_alike(model, whole, tmp_path):
    write(drawing(model, count=6), tmp_path / "six")
    np.testing.assert_array_equal(images(tmp_path / "six"), images(whole)[:6])


@pytest.mark.parametrize("batch", [3, 16])
def test_another_batch_draws_the_same_but_for_rounding(model, whole, tmp_path, batch):
    write(drawing(model, batch=batch), tmp_path / "out")
    made = images(tmp_path / "out").astype(int)
    np.testing.assert_allclose(made, images(whole), atol=1)


def test_a_thousand_and_three_are_a_thousand_and_three(model, tmp_path):
    write(drawing(model, count=1003, batch=64), tmp_path / "out")
    assert images(tmp_path / "out").shape[0] == 1003


def interrupted(model, out, batches, monkeypatch, **changes):
    """Draws into a folder until so many batches are drawn."""
    draw, drawn = SampleDrawing.draw, []

    def some(self, numbers):
        if len(drawn) == batches:
            raise KeyboardInterrupt
        drawn.append(numbers)
        return draw(self, numbers)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SampleDrawing, "draw", some)
        write(drawing(model, **changes), out)


def test_interrupted_work_resumes_to_the_same_bytes(model, whole, tmp_path, monkeypatch):
    out = tmp_path / "out"
    interrupted(model, out, 1, monkeypatch)
    part = out / "parts" / "part-000000-of-000003.npy"
    assert [path.name for path in (out / "parts").iterdir()] == [part.name]
    part.write_bytes(part.read_bytes()[:-9])  # as where the machine lost its power
    interrupted(model, out, 1, monkeypatch)
    written = part.stat().st_mtime_ns
    interrupted(model, out, 1, monkeypatch)
    assert part.stat().st_mtime_ns == written
    (out / "parts" / "part-000002-of-000003.npy.host.7.unfinished").touch()
    write(drawing(model), out)
    assert {path.name: data for path, data in contents(out).items()} == {
        path.name: data for path, data in contents(whole).items()
    }


def test_interrupted_in_a_bucket_they_are_the_same_bytes(model, whole, bucket, monkeypatch):
    out = bucket / "samples"
    interrupted(model, out, 1, monkeypatch)
    assert len(names_below(out / "parts")) > 0
    write(drawing(model), out)
    assert names_below(out) == ["manifest.json", "samples.npz"]
    assert (out / "samples.npz").read_bytes() == (whole / "samples.npz").read_bytes()


def test_killed_in_the_last_moment_nothing_is_left_over(model, whole, tmp_path, monkeypatch):
    out = tmp_path / "out"
    for name in ("file_checksum", "write_archive"):
        with monkeypatch.context() as patch, pytest.raises(TypeError):
            patch.setattr(writing, name, None)
            write(drawing(model), out)
    write(drawing(model), out)
    (out / "parts").mkdir()
    assert write(drawing(model), out) is None
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "samples.npz"]
    assert file_checksum(out / "samples.npz") == file_checksum(whole / "samples.npz")


def test_the_result_does_not_depend_on_the_number_of_hosts(model, whole, tmp_path, monkeypatch):
    def as_host(index):
        monkeypatch.setattr(jax, "process_index", lambda: index)
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        for module in (writing, lock):
            monkeypatch.setattr(module, "on_first_process", lambda make: make() or "")
        write(drawing(model), tmp_path / "two")

    with monkeypatch.context() as patch, pytest.raises(TypeError):
        patch.setattr(writing, "_conclude", None)
        as_host(1)
    parts = {path.name for path in (tmp_path / "two" / "parts").iterdir()}
    assert parts == {"part-000001-of-000003.npy"}
    as_host(0)
    assert file_checksum(tmp_path / "two/samples.npz") == file_checksum(whole / "samples.npz")


def test_pictures_show_the_images(model, whole, tmp_path):
    write(drawing(model, layout=Layout(png=True)), tmp_path / "out")
    files = sorted((tmp_path / "out" / "png").iterdir())
    assert [file.name for file in files] == [f"{number:06d}.png" for number in range(11)]
    shown = np.stack([np.asarray(Image.open(file)) for file in files])
    np.testing.assert_array_equal(shown, images(whole))


def test_an_image_of_nan_is_named(model, tmp_path, monkeypatch):
    def draw(self, numbers):
        made = np.zeros((len(numbers), 8, 12, 3), np.float32)
        made[np.array(numbers) == 6, 3] = np.nan
        return made

    monkeypatch.setattr(SampleDrawing, "draw", draw)
    with pytest.raises(ValueError, match="image 6 of the samples has NaN"):
        write(drawing(model), tmp_path / "out")


OTHERS = {
    "count": ({"count": 12}, "holds samples of count=11, got 12"),
    "seed": ({"seed": 1}, "seed=0, got 1"),
    "batch": ({"batch": 5}, "images_per_device=4, got 5"),
    "guidance": ({"guidance": 2.0}, "sampling.guidance=1.0, got 2.0"),
    "png": ({"layout": Layout(png=True)}, "png=False, got True"),
}


@pytest.mark.parametrize("changes,message", OTHERS.values(), ids=OTHERS)
def test_other_samples_are_not_written_over(model, whole, changes, message):
    before = contents(whole)
    with pytest.raises(ValueError, match=message):
        write(drawing(model, **changes), whole)
    assert contents(whole) == before


def test_other_machines_do_not_go_on_but_settings_may_change_before_the_first_image(
    model, whole, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    interrupted(model, out, 0, monkeypatch, guidance=3.0)
    interrupted(model, out, 1, monkeypatch)
    with pytest.raises(ValueError, match="device='this one', got 'another'"):
        write(drawing(model), out, {"device": "another"})
    write(drawing(model), out)
    assert file_checksum(out / "samples.npz") == file_checksum(whole / "samples.npz")


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json"])
def test_a_folder_of_something_else_is_refused(model, tmp_path, name):
    (tmp_path / name).write_text('{"shards": []}')
    with pytest.raises(ValueError, match=r"holds something else|is not what python -m mvar_jax"):
        write(drawing(model), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_finished_folder_without_its_archive_is_not_called_finished(model, tmp_path):
    write(drawing(model), tmp_path / "out")
    (tmp_path / "out" / "samples.npz").unlink()
    with pytest.raises(ValueError, match=r"is finished, but its samples.npz is gone"):
        write(drawing(model), tmp_path / "out")


BAD = {
    "count": ({"count": 0}, "num: got 0"),
    "batch": ({"batch": 0}, "batch_size: got 0"),
    "seed": ({"seed": -1}, "seed: got -1"),
    "setting": ({"top_p": 2.0}, "top_p"),
    "layer": ({"guidance_layer": 9}, "guidance_layer: got 9"),
}


@pytest.mark.parametrize("changes,message", BAD.values(), ids=BAD)
def test_what_cannot_be_drawn_is_refused(model, changes, message):
    with pytest.raises(ValueError, match=message):
        drawing(model, **changes)


def test_an_archive_takes_the_memory_of_a_part(tmp_path):
    parts = Parts(tmp_path / "parts", count=190, size=10, image_size=(100, 100))
    for part in range(len(parts)):
        parts.write(part, np.full((10, 100, 100, 3), part, np.uint8))
    tracemalloc.start()
    write_archive(tmp_path / "a.npz", (190, 100, 100, 3), parts.read())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 3 * 10 * 100 * 100 * 3  # of 19 parts
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["arr_0"][:, 0, 0, 0], np.arange(190) // 10)


class Runs:
    """Processes that write samples of a tiny model, and are killed."""

    def __init__(self, folder, root, *, count, devices):
        self.folder, self._root, self.random = folder, root, random.Random(0)
        one = {**os.environ, "XLA_FLAGS": quick_flags()}
        self._environment = {1: one, 8: eight_devices()}[devices]
        self._command = [sys.executable, "-m", tiny.__name__, str(folder), str(count), "4"]

    def start(self):
        return subprocess.Popen(
            self._command,
            cwd=self._root,
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_after_parts(self):
        """Kills a run at a random moment after it has written one more part, or some."""
        process, before = self.start(), self.parts()
        while process.poll() is None and self.parts() <= before:
            time.sleep(0.002)
        time.sleep(self.random.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        said = process.communicate()[1]
        assert process.returncode == -signal.SIGKILL, said

    def finish(self):
        process = self.start()
        said = process.communicate()[1]
        assert process.returncode == 0, said
        return said

    def parts(self):
        return len(list((self.folder / "parts").glob("*.npy")))


def test_killed_on_one_device_it_resumes_on_eight(model, pytestconfig, tmp_path):
    out, root = tmp_path / "killed", pytestconfig.rootpath
    Runs(out, root, count=43, devices=1).kill_after_parts()
    Runs(out, root, count=43, devices=8).finish()
    write(drawing(model, count=43), tmp_path / "whole")
    assert file_checksum(out / "samples.npz") == file_checksum(tmp_path / "whole/samples.npz")


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])
def test_killed_three_times_at_random_moments(model, pytestconfig, tmp_path, devices):
    count = 120 * devices + 3
    killed = Runs(tmp_path / "killed", pytestconfig.rootpath, count=count, devices=devices)
    for _ in range(3):
        killed.kill_after_parts()
    killed.finish()
    write(drawing(model, count=count), tmp_path / "whole")
    checksums = [file_checksum(tmp_path / name / "samples.npz") for name in ("killed", "whole")]
    print(devices, *checksums)
    assert checksums[0] == checksums[1]
