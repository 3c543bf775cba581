"""Checkpoints: what is restored, and how damage and mismatches are reported."""

import shutil
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mvar_jax.training.checkpoint import Checkpoints
from mvar_jax.training.parameters import load_params, save_params, save_placed
from mvar_jax.training.seal import SEAL
from mvar_jax.training.state import apply_gradients, create_state
from mvar_jax.training.stored import check_is_run
from tests.training.tiny import dataset

ADAM = optax.adam(0.1)
DECAY = 0.5


def new_state(width=64, decay=DECAY):
    params = {"layer": {"kernel": jnp.ones((width, 3)), "bias": jnp.zeros(3)}}
    return create_state(params, ADAM, decay)


@jax.jit
def step(state):
    return apply_gradients(state, jax.tree.map(jnp.cos, state.params), ADAM, ema_decay=DECAY)


def batches():
    return iter(dataset().to_iter_dataset().batch(4))


def save(directory, steps=(1, 2, 3), keep=2, state=None):
    """Saves a state after each of `steps`; returns the last one and the iterator."""
    state, stream = state or new_state(), batches()
    with Checkpoints(directory, keep) as checkpoints:
        for count in range(1, max(steps) + 1):
            next(stream)
            state = step(state)
            if count in steps:
                checkpoints.save(state, stream)
    return state, stream


def restore(directory, state=None):
    stream = batches()
    with Checkpoints(directory, 2) as checkpoints:
        return checkpoints.restore(state or new_state(), stream), stream


def check_equal(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def test_state_and_position_in_the_data_are_restored(tmp_path):
    state, stream = save(tmp_path)
    restored, restored_stream = restore(tmp_path)
    check_equal(restored, state)
    np.testing.assert_array_equal(next(restored_stream)["image"], next(stream)["image"])


def test_state_that_changes_while_it_is_written_is_saved_as_it_was(tmp_path):
    donating = jax.jit(lambda state: apply_gradients(state, state.params, ADAM), donate_argnums=0)
    state = donating(new_state(width=500_000, decay=0.0))
    expected = np.array(state.params["layer"]["kernel"])
    with Checkpoints(tmp_path, 1) as checkpoints:
        checkpoints.save(state, batches())
        for _ in range(3):
            state = donating(state)
    restored, _ = restore(tmp_path, new_state(width=500_000, decay=0.0))
    np.testing.assert_array_equal(restored.params["layer"]["kernel"], expected)


def test_nothing_to_restore(tmp_path):
    assert restore(tmp_path / "new")[0] is None


def test_newest_are_kept(tmp_path):
    save(tmp_path, steps=(1, 2, 5, 7), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5", "7"]


def test_parameters_load_without_the_optimizer(tmp_path):
    state, _ = save(tmp_path)
    expected = jax.eval_shape(lambda: state.params)
    check_equal(load_params(tmp_path, expected), state.average)


def test_parameters_load_where_no_average_is_kept(tmp_path):
    state, _ = save(tmp_path, state=new_state(decay=0.0))
    check_equal(load_params(tmp_path, state.params), state.params)


def test_parameters_saved_one_after_another_load_as_others_do(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("mvar_jax.training.parameters.GROUP_BYTES", 100)
    params = {"a": {"b": np.arange(30), "c": np.ones((3, 2))}, "d": np.zeros(1)}
    params = jax.tree.map(np.float32, params)
    leaves = ((("a", "b"), params["a"]["b"]), (("a", "c"), params["a"]["c"]), (("d",), params["d"]))
    save_params(tmp_path, iter(leaves))
    check_equal(load_params(tmp_path, params), params)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]
    assert (tmp_path / "0" / SEAL).is_file()
    assert capfd.readouterr().err == ""


def test_arrays_are_stored_as_they_are(tmp_path):
    zeros = {"kernel": jnp.zeros((100_000, 4))}  # nothing compresses better
    with Checkpoints(tmp_path / "trained", 1) as checkpoints:
        checkpoints.save(create_state(zeros, ADAM), batches())
    save_placed(tmp_path / "placed", zeros)
    save_params(tmp_path / "alone", [(("kernel",), np.asarray(zeros["kernel"]))])
    for folder in tmp_path.iterdir():
        stored = sum(file.stat().st_size for file in folder.rglob("params/**/*") if file.is_file())
        assert stored >= zeros["kernel"].nbytes


def test_leftovers_of_a_killed_save_are_no_checkpoint(tmp_path):
    state, _ = save(tmp_path)
    shutil.copytree(tmp_path / "3", tmp_path / "4.orbax-checkpoint-tmp")
    check_equal(restore(tmp_path)[0], state)


def files(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def newest_files(tmp_path):
    """The files of the newest checkpoint, by what they are: arrays, index, metadata, data."""
    newest = tmp_path / "3"
    return {
        "arrays": max((newest / "params").rglob("d/*"), key=lambda path: path.stat().st_size),
        "index": newest / "params" / "manifest.ocdbt",
        "metadata": newest / "optimizer" / "_METADATA",
        "data": next((newest / "data").glob("*.json")),
        "average": newest / "average" / "manifest.ocdbt",
    }


@pytest.mark.parametrize("kind", ["arrays", "index", "metadata", "data", "average"])
@pytest.mark.parametrize("damage", ["half", "missing", "half and never sealed"])
@pytest.mark.filterwarnings("ignore")  # Orbax's own, of reads that failed
def test_damage_of_the_only_checkpoint_is_reported_and_nothing_is_changed(
    tmp_path, capfd, kind, damage
):
    sealed = "never sealed" not in damage
    save(tmp_path, steps=(3,))
    path = newest_files(tmp_path)[kind]
    content = path.read_bytes()
    path.unlink()
    if "half" in damage:
        path.write_bytes(content[: len(content) // 2])
    if not sealed:
        (tmp_path / "3" / SEAL).unlink()
    before = files(tmp_path)
    with pytest.raises(ValueError) as error:
        restore(tmp_path)
    message = str(error.value)
    assert message.startswith(f"{tmp_path}: all checkpoints are damaged: 3 (")
    assert message.endswith("to start from scratch.") and "\n" not in message
    assert files(tmp_path) == before
    if sealed:
        assert path.relative_to(tmp_path / "3").as_posix() in message
        assert capfd.readouterr().err == ""


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_the_checkpoint_before_a_damaged_one_is_restored(tmp_path, caplog, sealed):
    save(tmp_path)
    path = newest_files(tmp_path)["metadata"]
    path.write_bytes(path.read_bytes()[:-7])
    if not sealed:
        (tmp_path / "3" / SEAL).unlink()
    before = files(tmp_path / "3")
    expected, stream = new_state(), batches()
    for _ in range(2):
        expected = step(expected)
        next(stream)
    restored, restored_stream = restore(tmp_path)
    check_equal(restored, expected)
    np.testing.assert_array_equal(next(restored_stream)["image"], next(stream)["image"])
    assert f"{tmp_path / '3'} is damaged (" in caplog.text
    aside = files(tmp_path / "3.damaged")
    assert list(aside.values()) == list(before.values())
    assert not (tmp_path / "3").exists()


def test_parameters_load_from_the_checkpoint_before_a_damaged_one(tmp_path, caplog):
    state, _ = save(tmp_path)
    path = newest_files(tmp_path)["average"]
    path.write_bytes(path.read_bytes()[:-7])
    before = files(tmp_path)
    expected = step(step(new_state()))
    check_equal(load_params(tmp_path, state.params), expected.average)
    assert f"{tmp_path / '3'} is damaged (average/" in caplog.text
    assert files(tmp_path) == before


def test_a_sealed_checkpoint_that_cannot_be_read_is_no_damage(tmp_path, monkeypatch):
    save(tmp_path)

    def fail(*_):
        raise RuntimeError("out of memory\nmore")

    monkeypatch.setattr("mvar_jax.training.stored.ocp.load_checkpointables", fail)
    with pytest.raises(ValueError, match=r"3: this checkpoint cannot be read .*out of memory"):
        restore(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


def test_a_flipped_bit_is_detected(tmp_path, caplog):
    save(tmp_path)
    path = newest_files(tmp_path)["arrays"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert int(restore(tmp_path)[0].step) == 2
    assert "is not the file that was written" in caplog.text


def test_damaged_average_is_not_replaced_by_the_parameters(tmp_path):
    state, _ = save(tmp_path, steps=(3,))
    shutil.rmtree(tmp_path / "3" / "average")
    with pytest.raises(ValueError, match=r"average/.* is missing"):
        load_params(tmp_path, state.params)


def test_an_empty_newest_directory_is_damage(tmp_path):
    save(tmp_path)
    (tmp_path / "9").mkdir()
    assert int(restore(tmp_path)[0].step) == 3
    assert (tmp_path / "9.damaged").is_dir()


def test_a_file_in_place_of_the_newest_directory_is_damage(tmp_path, caplog):
    state, _ = save(tmp_path)
    (tmp_path / "50").write_text("no folder")
    check_equal(load_params(tmp_path, state.params), state.average)
    assert (
        f"{tmp_path / '50'} is damaged (it is a file, not a folder): taking step 3" in caplog.text
    )
    assert (tmp_path / "50").read_text() == "no folder"
    assert int(restore(tmp_path)[0].step) == 3
    assert (tmp_path / "50.damaged").is_file()


def test_a_file_in_place_of_all_checkpoints_is_refused_before_a_run_starts(tmp_path):
    (tmp_path / "checkpoints").touch()
    with pytest.raises(ValueError, match=r"checkpoints: is a file, expected the folder of check"):
        Checkpoints(tmp_path / "checkpoints", 2)


def test_other_shapes_are_reported_by_name(tmp_path):
    save(tmp_path)
    with pytest.raises(ValueError) as error:
        restore(tmp_path, new_state(width=65))
    assert (
        "params/layer/kernel is stored as an array of shape (64, 3), expected an array of shape "
        "(65, 3); use the configuration"
    ) in str(error.value)


def test_other_parameters_are_reported_by_name(tmp_path):
    state, _ = save(tmp_path)
    with pytest.raises(ValueError, match=r"average/layer/bias is stored as .*, expected nothing"):
        load_params(tmp_path, {"layer": {"kernel": state.params["layer"]["kernel"]}})
    with pytest.raises(ValueError, match="average/more is stored as nothing, expected an array"):
        load_params(tmp_path, state.params | {"more": jnp.zeros(2)})


def test_average_wanted_but_not_stored(tmp_path):
    save(tmp_path, state=new_state(decay=0.0))
    with pytest.raises(ValueError, match="holds no average of the parameters"):
        restore(tmp_path, new_state(decay=0.9))


def test_parameters_alone_are_no_run_to_go_on_with(tmp_path):
    save_params(tmp_path, [(("layer", "kernel"), np.zeros((64, 3), np.float32))])
    with pytest.raises(
        ValueError, match=r"holds parameters alone \(no optimizer, no data position\)"
    ):
        check_is_run(tmp_path)
    check_is_run(tmp_path / "new")
    save(tmp_path / "run")
    check_is_run(tmp_path / "run")


def unverified(tmp_path):
    return [f"{tmp_path / '3'} holds no seal.json: its files were loaded unverified."]


def test_a_checkpoint_without_its_seal_is_loaded_with_a_warning(tmp_path, caplog):
    state, _ = save(tmp_path)
    (tmp_path / "3" / SEAL).unlink()
    check_equal(load_params(tmp_path, state.params), state.average)
    assert [record.getMessage() for record in caplog.records] == unverified(tmp_path)
    caplog.clear()
    check_equal(restore(tmp_path)[0], state)
    assert [record.getMessage() for record in caplog.records] == unverified(tmp_path)


def test_verifying_refuses_a_checkpoint_without_its_seal(tmp_path, caplog):
    state, _ = save(tmp_path)
    check_equal(load_params(tmp_path, state.params, verify=True), state.average)
    (tmp_path / "3" / SEAL).unlink()
    with pytest.raises(ValueError, match=r"3: holds no seal\.json, expected one to verify"):
        load_params(tmp_path, state.params, verify=True)
    assert caplog.records == []


def leave_out(checkpoint):
    for part in ("optimizer", "data"):
        shutil.rmtree(checkpoint / part)


def test_a_copy_without_optimizer_and_data_is_sampled_from_but_not_gone_on_with(tmp_path, caplog):
    state, _ = save(tmp_path, steps=(3,))
    leave_out(tmp_path / "3")
    check_equal(load_params(tmp_path, state.params), state.average)
    assert caplog.records == []
    with pytest.raises(ValueError) as error:
        check_is_run(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: holds parameters alone (no optimizer, no data position), as imported and "
        "shared models do, expected a training to go on with; use another --workdir (python -m "
        "mvar_jax.train takes them by --init)."
    )


def test_where_the_checkpoint_before_has_all_the_run_goes_on_from_there(tmp_path, caplog):
    save(tmp_path)
    leave_out(tmp_path / "3")
    check_is_run(tmp_path)
    assert int(restore(tmp_path)[0].step) == 2
    assert "3 is damaged (data/" in caplog.text


@pytest.mark.parametrize("name", ["", "missing"])
def test_no_checkpoint_to_load_from(tmp_path, name):
    with pytest.raises(ValueError, match="no checkpoint found, expected one from training"):
        load_params(tmp_path / name, {})


FULL = """
    import resource, sys
    from pathlib import Path
    import numpy as np, optax
    from mvar_jax import cli
    from mvar_jax.training.checkpoint import Checkpoints
    from mvar_jax.training.state import create_state
    from tests.training.tiny import train_batches

    def main():
        noise = np.random.default_rng(0).random((300, 300), np.float32)  # does not compress
        state, stream = create_state({"w": noise}, optax.sgd(0.1)), iter(train_batches())
        with Checkpoints(Path(FOLDER), 1) as checkpoints:
            for step in (1, 2):
                checkpoints.save(state.replace(step=state.step + step), stream)
                checkpoints.wait()
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    cli.run(main)
"""


def test_a_full_disk_is_reported_in_one_sentence_and_earlier_checkpoints_are_kept(tmp_path):
    script = textwrap.dedent(FULL).replace("FOLDER", repr(str(tmp_path)))
    program = [sys.executable, "-c", script]
    result = subprocess.run(program, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith(
        f"error: {tmp_path / '2'}: this checkpoint could not be saved ("
    )
    assert "File too large" in result.stderr and "step 1 is the last one" in result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.count("fix") == 1, result.stderr
    noise = np.random.default_rng(0).random((300, 300), np.float32)
    np.testing.assert_array_equal(load_params(tmp_path, {"w": noise})["w"], noise)
