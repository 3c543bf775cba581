"""Several processes, on this machine, that train as one."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from mvar_jax.mesh.processes import join_cluster
from tests.shared import UNOPTIMIZED

CONFIG = """
from mvar_jax.config.files import (load_config)

def get_config():
    config = load_config("digits.py:runlocal")
    config.batch_size = 16
    config.data.validation_split = "test[:20]"  # the last batch is of four images
    config.tokenizer.update(
        stem_stride=16, scales=((1, 1), (2, 2)), vocabulary=16, code_channels=4,
        base_channels=8, norm_groups=4, shared_convolutions=1,
    )
    config.model.update(depth=2, width=16, heads=2, drop_path_rate=0.2)
    config.model.ssm.update(state_size=4, head_dim=8, chunk=8)
    config.training.update(steps=3, log_every=1, save_every=3, validate_every=3)
    return config
"""


@pytest.fixture
def launch(digits_directory, tmp_path):
    """Trains a small trunk in so many processes of so many devices; returns what each said."""

    def launch(workdir, processes, devices, *flags, steps=3):
        environment = {
            **os.environ,
            "TFDS_DATA_DIR": digits_directory,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {UNOPTIMIZED}",
        }
        if processes > 1:
            # The first process alone would find its programs there and wait for the others longer
            # than the exchange between them allows.
            environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        (tmp_path / "small.py").write_text(CONFIG)
        command = [sys.executable, "-m", "mvar_jax.train", "--config=small.py"]
        command += [f"--config.training.steps={steps}", f"--workdir={workdir}", *flags]
        if processes > 1:
            command += [f"--coordinator=127.0.0.1:{free_port()}", f"--num_processes={processes}"]
        ids = [[f"--process_id={i}"] for i in range(processes)] if processes > 1 else [[]]
        running = [
            subprocess.Popen(
                [*command, *own],
                cwd=tmp_path,
                env=environment,
                stderr=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for own in ids
        ]
        ended = [(*process.communicate(), process.returncode) for process in running]
        assert all(code == 0 for _, _, code in ended), ended
        return ended

    return launch


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def check_same_rows(workdir, other):
    assert len(rows(workdir)) == len(rows(other)) > 0
    for row, expected in zip(rows(workdir), rows(other)):
        assert row.keys() == expected.keys()
        for name, value in row.items():
            # A norm is of differences that nearly cancel, and sums of other order differ there.
            tolerance = 1e-4 if name == "gradient_norm" else 1e-5
            np.testing.assert_allclose(value, expected[name], rtol=tolerance, err_msg=name)


@pytest.mark.slow
def test_two_processes_train_as_one_and_print_once(launch, tmp_path):
    launch(tmp_path / "one", 1, 1)
    first, second = launch(tmp_path / "two", 2, 4, "--config.mesh.fsdp=4")
    check_same_rows(tmp_path / "two", tmp_path / "one")
    for index, (_, said, _) in enumerate((first, second)):
        assert f"process {index}/2: 4 local, 8 global devices (cpu), mesh data=2 fsdp=4" in said
    assert "step 3/3" in first[1] and "step 3/3" not in second[1]
    assert "The model is in" in first[0] and "The model is in" not in second[0]
    assert (tmp_path / "two" / "classes.json").exists()


@pytest.mark.slow
def test_a_run_resumes_on_another_number_of_processes_and_devices(launch, tmp_path):
    for steps in (3, 6):  # in two parts too: rates follow from the number of steps
        launch(tmp_path / "whole", 1, 1, steps=steps)
    launch(tmp_path / "begun", 2, 4, "--config.mesh.fsdp=2", "--config.mesh.data=4")
    for name, processes, devices, mesh in (
        ("fewer", 1, 2, "--config.mesh.fsdp=2"),
        ("more", 4, 2, "--config.mesh.tensor=2"),
    ):
        workdir = tmp_path / name
        shutil.copytree(tmp_path / "begun", workdir)
        launch(workdir, processes, devices, mesh, steps=6)
        check_same_rows(workdir, tmp_path / "whole")


@pytest.mark.parametrize("process", [0, 1])
def test_a_process_that_the_others_do_not_join_ends_with_one_sentence(pytestconfig, process):
    address = f"127.0.0.1:{free_port()}"
    program = (
        "from mvar_jax.mesh.processes import join_cluster;"
        f"join_cluster(2, {address!r}, 2, {process})"
    )
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=pytestconfig.rootpath,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert time.monotonic() - began >= 2
    assert result.returncode == 75
    assert result.stderr == (
        f"error: not all processes joined at {address} within 2 seconds; did you start it on all "
        "workers? Give them longer by --join_timeout.\n"
    )


@pytest.mark.parametrize(
    "error, sentence",
    [
        ("ValueError('got nothing.')", "got nothing."),
        ("OSError(28, 'No space left', 'out')", "out: No space left; expected a path that can be"),
    ],
    ids=["input", "place"],
)
def test_results_and_errors_of_process_0_reach_all_processes(pytestconfig, error, sentence):
    address = f"127.0.0.1:{free_port()}"
    programs = [
        f"""
from mvar_jax.mesh.processes import on_first_process, join_cluster
join_cluster(60, {address!r}, 2, {index})
def refuse():
    raise {error}
print(on_first_process(lambda: "told by {index}"), end="; ")
try:
    on_first_process(refuse)
except ValueError as error:
    print(error)
"""
        for index in range(2)
    ]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=pytestconfig.rootpath,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for program in programs
    ]
    said = [process.communicate(timeout=100)[0].splitlines()[-1] for process in running]
    assert said[0] == said[1]
    assert said[0].startswith(f"told by 0; {sentence}")


@pytest.mark.parametrize(
    "address, word",
    [
        (("host:1", 2, None), "expected all three"),
        (("host", 2, 0), "HOST:PORT"),
        (("host:99999", 2, 0), "HOST:PORT"),
        (("host:1", 2, 2), "expected 0 to 1"),
    ],
)
def test_addresses_are_checked_before_anything_waits(address, word):
    with pytest.raises(ValueError, match=word):
        join_cluster(1, *address)
