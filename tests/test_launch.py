"""The launch scripts: what they print, what they run, and how a training under them ends."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])

TRAINING = {"CONFIG": "configs/digits.py", "WORKDIR": "/mnt/storage/runs/my digits"}
IN_BUCKET = {"CONFIG": "configs/digits.py", "WORKDIR": "gs://my-bucket/digits"}
PROCESSES = {"PROCESSES": "2", "PORT": "1234", "PROGRAMS": "train"}
SLURM = {"NODES": "2", "GPUS_PER_NODE": "4"}
SLURM_JOB = {
    "LAUNCH": str(LAUNCH),
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_CPUS_PER_TASK": "8",
    "PROGRAMS": "train",
}
TPU = {"NAME": "digits", "ZONE": "us-west4-a"}
TPU_SETUP = {"STORAGE": "gs://my-bucket", "REPOSITORY": "https://example.org/mvar_jax"}
TPU_CREATE = {**TPU, **TPU_SETUP, "ACCELERATOR": "v5litepod-16"}
GKE = {"NAME": "digits", "CLUSTER": "tpus", "ZONE": "us-west4-a"}
GKE_CREATE = {**GKE, "TPU_TYPE": "v5litepod-16", "STORAGE": "runs"}

SETUP = """
export HOME=/root;
  curl -LsSf https://astral.sh/uv/install.sh | env UV_UNMANAGED_INSTALL=/usr/local/bin sh;
  { test -d /opt/mvar_jax || git clone https://example.org/mvar_jax /opt/mvar_jax; };
  git -C /opt/mvar_jax fetch origin main;
  git -C /opt/mvar_jax checkout --detach FETCH_HEAD;
  uv venv --allow-existing --python 3.12 /opt/mvar_jax/.venv;
  uv pip install --python /opt/mvar_jax/.venv/bin/python --editable /opt/mvar_jax[tpu];"""
BUCKET = """
  curl --fail --silent --show-error --location --output ./gcsfuse.deb
  https://github.com/GoogleCloudPlatform/gcsfuse/releases/download/v3.11.1/gcsfuse_3.11.1_amd64.deb;
  apt-get -o DPkg::Lock::Timeout=600 install --yes ./gcsfuse.deb;
  mkdir -p /mnt/storage;
  { mountpoint -q /mnt/storage || gcsfuse --metadata-cache-ttl-secs=0
  --metadata-cache-negative-ttl-secs=0 my-bucket /mnt/storage; }"""
SHARE = """
  apt-get -o DPkg::Lock::Timeout=600 install --yes nfs-common;
  mkdir -p /mnt/storage;
  { mountpoint -q /mnt/storage || mount -t nfs 10.0.0.2:/share /mnt/storage; }"""
SERVICE = """
systemd-run --unit=mvar_jax --collect --working-directory=/opt/mvar_jax
  --property=KillMode=mixed --property=TimeoutStopSec=600
  --property=Restart=on-failure --property=RestartPreventExitStatus=2
  --property=RestartSec=30 --property=StartLimitIntervalSec=3600 --property=StartLimitBurst=5
  --setenv=HOME=/root --setenv=PYTHON=/opt/mvar_jax/.venv/bin/python
  --setenv=CONFIG=configs/digits.py '--setenv=WORKDIR=/mnt/storage/runs/my digits'
  '--setenv=PROGRAMS=train_tokenizer train'
  /opt/mvar_jax/launch/local.sh --distributed"""


def lines(text):
    """The lines of a text, in which a line that starts with a space continues the one before."""
    return text.strip("\n").replace("\n  ", " ").split("\n")


def on_machines(which, command):
    """A command that root runs on machines of the TPU."""
    quoted = lines(command)[0].replace("'", r"'\''")
    inner = f"sudo bash -euo pipefail -c '{quoted}'"
    return "gcloud compute tpus tpu-vm ssh digits --zone=us-west4-a " + shlex.join(
        [f"--worker={which}", f"--command={inner}"]
    )


# Script and arguments -> variables, printed commands.
DRY_RUNS = {
    "local.sh --config.seed=3": (
        TRAINING,
        """
python3 -m mvar_jax.train_tokenizer --config=configs/digits.py
  '--workdir=/mnt/storage/runs/my digits' --config.seed=3
python3 -m mvar_jax.train --config=configs/digits.py
  '--workdir=/mnt/storage/runs/my digits' --config.seed=3
""",
    ),
    "processes.sh --config.seed=3": (
        {**TRAINING, **PROCESSES},
        """
env CUDA_VISIBLE_DEVICES=0 python3 -m mvar_jax.train --config=configs/digits.py
  '--workdir=/mnt/storage/runs/my digits' --coordinator=127.0.0.1:1234 --num_processes=2
  --process_id=0 --config.seed=3
env CUDA_VISIBLE_DEVICES=1 python3 -m mvar_jax.train --config=configs/digits.py
  '--workdir=/mnt/storage/runs/my digits' --coordinator=127.0.0.1:1234 --num_processes=2
  --process_id=1 --config.seed=3
""",
    ),
    "processes.sh": (
        {**TRAINING, **PROCESSES, "PROCESSES": "1", "CPU_DEVICES": "4"},
        """
env JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=4 python3 -m mvar_jax.train
  --config=configs/digits.py '--workdir=/mnt/storage/runs/my digits'
  --coordinator=127.0.0.1:1234 --num_processes=1 --process_id=0
""",
    ),
    "slurm.sh --config.seed=3": (
        {**TRAINING, **SLURM},
        """
mkdir -p '/mnt/storage/runs/my digits'
sbatch --nodes=2 --gpus-per-node=4 --ntasks-per-node=4 --cpus-per-task=8
  '--output=/mnt/storage/runs/my digits/slurm-%j.log' --export=ALL,LAUNCH={launch}
  {launch}/slurm.sbatch --config.seed=3
""",
    ),
    "slurm.sh": (
        {**TRAINING, **SLURM, "TASK_PER": "node", "CPUS_PER_TASK": "64"},
        """
mkdir -p '/mnt/storage/runs/my digits'
sbatch --nodes=2 --gpus-per-node=4 --ntasks-per-node=1 --cpus-per-task=64
  '--output=/mnt/storage/runs/my digits/slurm-%j.log' --export=ALL,LAUNCH={launch}
  {launch}/slurm.sbatch
""",
    ),
    "slurm.sh --config.seed=4": (
        {**TRAINING, **SLURM, **IN_BUCKET},
        """
mkdir -p logs
sbatch --nodes=2 --gpus-per-node=4 --ntasks-per-node=4 --cpus-per-task=8
  --output=logs/slurm-%j.log --export=ALL,LAUNCH={launch}
  {launch}/slurm.sbatch --config.seed=4
""",
    ),
    "slurm.sbatch --config.seed=3": (
        {**TRAINING, **SLURM_JOB},
        """
srun --label --kill-on-bad-exit=1 --cpus-per-task=8 python3 -m mvar_jax.train
  --config=configs/digits.py '--workdir=/mnt/storage/runs/my digits' --distributed
  --config.seed=3
""",
    ),
    "tpu_vm.sh create --config.seed=3": (
        {**TRAINING, **TPU_CREATE, "SPOT": "1"},
        "gcloud compute tpus queued-resources create digits --node-id=digits --zone=us-west4-a"
        " --accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --spot "
        + shlex.quote(
            f"--metadata=^:::^mvar-setup={lines(SETUP + BUCKET)[0]}"
            f":::mvar-train={lines(SERVICE)[0]} --config.seed=3"
        )
        + " --metadata-from-file=startup-script={launch}/tpu_startup.sh",
    ),
    "tpu_vm.sh setup": (
        {**TPU, **TPU_SETUP, "STORAGE": "10.0.0.2:/share"},
        on_machines("all", SETUP + SHARE),
    ),
    "tpu_vm.sh setup --config.seed=3": (
        {**TPU, **IN_BUCKET, "REPOSITORY": TPU_SETUP["REPOSITORY"]},
        on_machines("all", SETUP.replace("[tpu];", "[tpu,gcs]")),
    ),
    "tpu_vm.sh train --config.seed=3": (
        {**TPU, **IN_BUCKET},
        on_machines(
            "all",
            SERVICE.replace(
                "'--setenv=WORKDIR=/mnt/storage/runs/my digits'",
                "--setenv=WORKDIR=gs://my-bucket/digits",
            )
            + " --config.seed=3",
        ),
    ),
    "tpu_vm.sh train": ({**TPU, **TRAINING}, on_machines("all", SERVICE)),
    "tpu_vm.sh logs": (
        {**TPU, "MACHINE": "3"},
        on_machines(
            "3", "journalctl --unit=google-startup-scripts --unit=mvar_jax --lines=100 --follow"
        ),
    ),
    "tpu_vm.sh status": (
        TPU,
        """
gcloud compute tpus queued-resources describe digits --zone=us-west4-a
  '--format=value(state.state)'
""",
    ),
    "tpu_vm.sh delete": (
        TPU,
        "gcloud compute tpus queued-resources delete digits --zone=us-west4-a --force",
    ),
    "gke.sh create --config.seed=3": (
        {**TRAINING, **GKE_CREATE, "DOCKER_IMAGE": "registry/me/mvar:1", "PROGRAMS": "train"},
        """
xpk workload create --workload=digits --cluster=tpus --zone=us-west4-a
  --tpu-type=v5litepod-16 --docker-image=registry/me/mvar:1 --storage=runs --max-restarts=10
  --restart-on-exit-codes=1 --termination-grace-period-seconds=300
  {command}
""".replace(
            "{command}",
            shlex.quote(
                "--command=exec env CONFIG=configs/digits.py 'WORKDIR=/mnt/storage/runs/my digits'"
                " PROGRAMS=train launch/local.sh --distributed --config.seed=3"
            ),
        ),
    ),
    "gke.sh create --config.seed=4": (
        {
            **{name: value for name, value in GKE_CREATE.items() if name != "STORAGE"},
            **IN_BUCKET,
            "DOCKER_IMAGE": "registry/me/mvar:1",
            "PROGRAMS": "train",
        },
        """
xpk workload create --workload=digits --cluster=tpus --zone=us-west4-a
  --tpu-type=v5litepod-16 --docker-image=registry/me/mvar:1 --max-restarts=10
  --restart-on-exit-codes=1 --termination-grace-period-seconds=300
  {command}
""".replace(
            "{command}",
            shlex.quote(
                "--command=exec env CONFIG=configs/digits.py WORKDIR=gs://my-bucket/digits"
                " PROGRAMS=train launch/local.sh --distributed --config.seed=4"
            ),
        ),
    ),
    "gke.sh list": (GKE, "xpk workload list --cluster=tpus --zone=us-west4-a"),
    "gke.sh logs": (
        GKE,
        """
kubectl logs
  --selector=xpk.google.com/workload=digits,batch.kubernetes.io/job-completion-index=0
  --all-containers --tail=100 --follow
""",
    ),
    "gke.sh delete": (
        GKE,
        "xpk workload delete --workload=digits --cluster=tpus --zone=us-west4-a",
    ),
}

RECORD = """#!{python}
import json, os, sys
with open(os.environ["RECORD"], "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
"""


def environment(variables, folder):
    """The variables of a script, and nothing else of ours; `folder` comes first in the path."""
    kept = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
    return {**kept, "PATH": f"{folder}:{os.environ['PATH']}", **variables}


def start(command, variables, folder):
    script, *arguments = shlex.split(command)
    return subprocess.Popen(
        # Where tests run in the background they ignore SIGINT, which a script would inherit.
        ["env", "--default-signal=INT", "bash", str(LAUNCH / script), *arguments],
        env=environment(variables, folder),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # its group of processes is not ours
    )


def finish(process, timeout=60):
    """Waits for a script; leaves nothing behind when that takes too long."""
    try:
        process.stdout, process.stderr = process.communicate(timeout=timeout)
    finally:
        for kind in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):  # Ctrl-C twice kills trainers
            if process.poll() is None:
                process.send_signal(kind)
                time.sleep(0.5)
    return process


def launch(command, variables, folder, timeout=60):
    return finish(start(command, variables, folder), timeout)


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_shellcheck():
    command = ["shellcheck", "--external-sources", "--source-path=SCRIPTDIR", *map(str, SCRIPTS)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("command", DRY_RUNS)
def test_dry_runs_print_the_commands(command, tmp_path):
    variables, expected = DRY_RUNS[command]
    process = launch(f"{command} --dry-run", variables, tmp_path)
    assert process.returncode == 0, process.stderr
    printed = [shlex.split(line) for line in process.stdout.splitlines()]
    expected = lines(expected.replace("{launch}", shlex.quote(str(LAUNCH))))
    assert printed == [shlex.split(line) for line in expected]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", DRY_RUNS)
def test_what_runs_is_what_a_dry_run_prints(command, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("python3", "mkdir", "sbatch", "srun", "gcloud", "xpk", "kubectl"):
        executable(tools / name, RECORD.format(python=sys.executable))
    record = tmp_path / "record"
    workdir = tmp_path / "it's here"  # a quote and a space
    variables = {**DRY_RUNS[command][0], "WORKDIR": str(workdir), "RECORD": str(record)}
    if DRY_RUNS[command][0].get("WORKDIR") == IN_BUCKET["WORKDIR"]:
        variables["WORKDIR"] = "gs://my-bucket/it's here"
    elif command.startswith("tpu_vm"):
        variables["WORKDIR"] = "/mnt/storage/it's here"
    (workdir / "logs").mkdir(parents=True)
    argument = " \"--config.name=a 'b' c\""
    printed = launch(command + argument + " --dry-run", variables, tools).stdout
    assert launch(command + argument, variables, tools).returncode == 0
    ran = [json.loads(line) for line in record.read_text().splitlines()]
    expected = [shlex.split(line) for line in printed.splitlines()]
    expected = [line[line.index("python3") :] if line[0] == "env" else line for line in expected]
    ran = [line for line in ran if line != ["mkdir", "-p", f"{workdir}/logs"]]
    assert sorted(ran) == sorted(expected)  # processes end in any order


@pytest.mark.parametrize("command", ["tpu_vm.sh train", "gke.sh create"])
def test_values_survive_the_way_to_another_machine(command, tmp_path):
    """The command that is sent, run here: spaces and quotes arrive as they were given."""
    for name in ("systemd-run", "python3"):
        executable(tmp_path / name, RECORD.format(python=sys.executable))
    executable(tmp_path / "sudo", '#!/bin/sh\nexec "$@"\n')
    record, workdir = tmp_path / "record", "/mnt/storage/it's here"
    variables = {**DRY_RUNS[command.replace("create", "create --config.seed=3")][0]}
    variables |= {"WORKDIR": workdir, "PROGRAMS": "train"}
    line = launch(f"{command} '--config.name=a b' --dry-run", variables, tmp_path).stdout
    sent = shlex.split(line)[-1].removeprefix("--command=")
    environ = environment({"RECORD": str(record)}, tmp_path)
    subprocess.run(["bash", "-c", f"({sent})"], env=environ, cwd=ROOT, check=True, timeout=60)
    arrived = json.loads(record.read_text())
    assert arrived[-2:] == ["--distributed", "--config.name=a b"]
    assert f"--setenv=WORKDIR={workdir}" in arrived or f"--workdir={workdir}" in arrived


MISSING = [
    ("benchmark_gpu.sh", {"OUT": "figures"}, "OUT"),
    *[("local.sh", TRAINING, name) for name in TRAINING],
    *[("processes.sh", {**TRAINING, "PROCESSES": "2"}, name) for name in (*TRAINING, "PROCESSES")],
    *[("slurm.sh", {**TRAINING, **SLURM}, name) for name in (*TRAINING, *SLURM)],
    *[("slurm.sbatch", {**TRAINING, **SLURM_JOB}, name) for name in TRAINING],
    *[("tpu_vm.sh create", {**TRAINING, **TPU_CREATE}, name) for name in (*TRAINING, *TPU_CREATE)],
    *[("tpu_vm.sh setup", {**TPU, **TPU_SETUP}, name) for name in (*TPU, *TPU_SETUP)],
    *[("tpu_vm.sh train", {**TPU, **TRAINING}, name) for name in (*TPU, *TRAINING)],
    *[("tpu_vm.sh delete", TPU, name) for name in TPU],
    *[
        ("gke.sh create", {**TRAINING, **GKE_CREATE, "BASE_DOCKER_IMAGE": "me"}, name)
        for name in (*TRAINING, *GKE_CREATE, "BASE_DOCKER_IMAGE")
    ],
    *[("gke.sh delete", GKE, name) for name in GKE],
    *[("gke.sh list", GKE, name) for name in ("CLUSTER", "ZONE")],
]


@pytest.mark.parametrize(("command", "variables", "name"), MISSING)
def test_a_missing_variable_is_one_sentence(command, variables, name, tmp_path):
    process = launch(f"{command} --dry-run", {**variables, name: ""}, tmp_path)
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.startswith(f"error: {name} is missing, expected ")
    assert process.stderr.count("\n") == 1


WRONG = [
    ("local.sh", {**TRAINING, "WORKDIR": "s3://bucket/run"}, "a folder of a bucket, gs://BUCKET"),
    ("processes.sh", {**TRAINING, "PROCESSES": "two"}, "a number from 1 on"),
    (
        "processes.sh",
        {**TRAINING, "PROCESSES": "2", "CUDA_VISIBLE_DEVICES": "3"},
        "names 1 GPUs, expected 2",
    ),
    ("slurm.sh", {**TRAINING, **SLURM, "TASK_PER": "rack"}, "expected one of: gpu node"),
    ("tpu_vm.sh", TPU, "action is missing, expected one of: create setup"),
    ("tpu_vm.sh create", {**TRAINING, **TPU_CREATE, "ACCELERATOR": "h100"}, "expected v6e-N"),
    ("tpu_vm.sh create", {**TRAINING, **TPU_CREATE, "STORAGE": "disk"}, "gs://NAME, or a file"),
    ("tpu_vm.sh train", {**TRAINING, **TPU, "WORKDIR": "runs"}, "a directory in /mnt/storage"),
    ("gke.sh stop", GKE, "action is stop, expected one of: create list logs delete"),
]


@pytest.mark.parametrize(("command", "variables", "words"), WRONG)
def test_a_wrong_variable_is_one_sentence(command, variables, words, tmp_path):
    process = launch(f"{command} --dry-run", variables, tmp_path)
    assert (process.returncode, process.stdout) == (2, "")
    assert words in process.stderr and process.stderr.startswith("error: ")
    assert process.stderr.count("\n") == 1


# A program that notes its start, and saves and ends well on SIGTERM, as a trainer does. It fails
# as process 1 of `train` where FAIL is set.
TRAINER = """#!/usr/bin/env bash
save() {
  trap 'touch "$FOLDER/again.$$"' TERM
  sleep 0.3
  echo saved
  touch "$FOLDER/saved.$$"
  exit 0
}
trap save TERM
echo "$2 starts"
if [[ -n "${FAIL:-}" && "$*" == *--process_id=1* ]]; then sleep 0.3; exit "$FAIL"; fi
touch "$FOLDER/started.$$"
[[ -z "${DEAF:-}" ]] || { trap '' TERM; touch "$FOLDER/deaf.$$"; }
[[ "$2" != *"${LAST:-}" ]] || exit 0
while true; do sleep 0.05; done
"""


@pytest.fixture
def trainer(tmp_path):
    """Variables under which the scripts start TRAINER instead of Python."""
    python = executable(tmp_path / "python", TRAINER)
    workdir = {"WORKDIR": str(tmp_path / "a run")}
    return {**TRAINING, **workdir, "PYTHON": python, "FOLDER": str(tmp_path), "LAST": "never"}


def count(folder, name):
    return len(list(folder.glob(f"{name}.*")))


def test_one_failing_process_stops_the_others(trainer, tmp_path):
    variables = {**trainer, "PROCESSES": "3", "CPU_DEVICES": "1", "FAIL": "5"}
    process = launch("processes.sh", variables, tmp_path)
    assert process.returncode == 5
    assert "process 1 ended with exit code 5" in process.stderr
    assert "train_tokenizer.1.log" in process.stderr
    logs = {path.name: path.read_text() for path in (tmp_path / "a run" / "logs").iterdir()}
    assert logs == {
        "train_tokenizer.0.log": "mvar_jax.train_tokenizer starts\nsaved\n",
        "train_tokenizer.1.log": "mvar_jax.train_tokenizer starts\n",
        "train_tokenizer.2.log": "mvar_jax.train_tokenizer starts\nsaved\n",
    }


def test_a_process_that_does_not_stop_is_killed(trainer, tmp_path):
    variables = {**trainer, "PROCESSES": "2", "CPU_DEVICES": "1", "FAIL": "5"}
    process = launch("processes.sh", {**variables, "DEAF": "1", "GRACE_SECONDS": "1"}, tmp_path)
    assert process.returncode == 5
    assert count(tmp_path, "started") == 1 and count(tmp_path, "saved") == 0


@pytest.mark.parametrize("command", ["local.sh", "processes.sh"])
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_trainers_save_and_starts_nothing_more(command, kind, trainer, tmp_path):
    count_processes = 2 if command == "processes.sh" else 1
    variables = {**trainer, "PROCESSES": "2", "CPU_DEVICES": "1"}
    process = start(command, variables, tmp_path)
    wait_for(lambda: count(tmp_path, "started") == count_processes)
    os.killpg(process.pid, kind)  # as a terminal and `timeout` do: it must reach a trainer once
    finish(process)
    assert process.returncode == 143  # not 0, which means a finished training
    assert count(tmp_path, "saved") == count_processes
    assert count(tmp_path, "again") == 0
    assert count(tmp_path, "started") == count_processes  # no `train` after `train_tokenizer`


def test_a_second_interrupt_waits_for_nothing(trainer, tmp_path):
    process = start("local.sh", {**trainer, "DEAF": "1"}, tmp_path)
    wait_for(lambda: count(tmp_path, "deaf") == 1)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)  # two at once are one
    finish(process)
    assert process.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize("command", ["local.sh", "processes.sh"])
def test_programs_run_one_after_the_other(command, trainer, tmp_path):
    variables = {**trainer, "PROCESSES": "1", "CPU_DEVICES": "1", "LAST": ""}
    assert launch(command, variables, tmp_path).returncode == 0
    assert count(tmp_path, "started") == 2


# SLURM on this machine: srun starts two tasks with the variables by which JAX finds the others,
# scancel signals them, scontrol notes what it was asked.
SRUN = """#!/usr/bin/env bash
while [[ "$1" == --* ]]; do shift; done
trap : TERM
export SLURM_NTASKS=2 SLURM_STEP_NODELIST=localhost
for task in 0 1; do
  SLURM_PROCID=$task SLURM_LOCALID=$task "$@" >"$FOLDER/task$task.log" 2>&1 &
  tasks+=("$!")
done
echo "${tasks[*]}" >"$FOLDER/tasks"
code=0
for task in "${tasks[@]}"; do wait "$task" || code=$?; done
exit "$code"
"""
SCANCEL = '#!/usr/bin/env bash\nkill "-${1#--signal=}" $(cat "$FOLDER/tasks")\n'
SCONTROL = '#!/usr/bin/env bash\necho "$@" >"$FOLDER/asked"\n'


@pytest.fixture
def slurm(tmp_path):
    """Variables of a job in a SLURM that consists of this machine."""
    for name, text in {"srun": SRUN, "scancel": SCANCEL, "scontrol": SCONTROL}.items():
        executable(tmp_path / name, text)
    return {**SLURM_JOB, "FOLDER": str(tmp_path)}


def test_slurm_requeues_a_job_that_runs_out_of_time(trainer, slurm, tmp_path):
    variables = {**trainer, **slurm, "PROGRAMS": "train_tokenizer train"}
    process = start("slurm.sbatch", variables, tmp_path)
    wait_for(lambda: count(tmp_path, "started") == 2)
    process.send_signal(signal.SIGUSR1)
    assert finish(process).returncode == 0, process.stderr
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    assert count(tmp_path, "saved") == 2 and count(tmp_path, "started") == 2


def test_slurm_passes_a_failure_on_and_does_not_requeue(trainer, slurm, tmp_path):
    executable(tmp_path / "python", "#!/bin/sh\nexit 6\n")
    assert launch("slurm.sbatch", {**trainer, **slurm}, tmp_path).returncode == 6
    assert not (tmp_path / "asked").exists()


def test_one_slurm_task_per_node_gets_all_of_its_gpus(slurm, tmp_path):
    executable(tmp_path / "python", '#!/bin/sh\necho "$JAX_LOCAL_DEVICE_IDS"\n')
    variables = {**TRAINING, **slurm, "PYTHON": str(tmp_path / "python")}
    variables |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_GPUS_ON_NODE": "4"}
    assert launch("slurm.sbatch", variables, tmp_path).returncode == 0
    assert (tmp_path / "task0.log").read_text() == "0,1,2,3\n"


CURL = """#!/usr/bin/env bash
case "${*: -1}" in
  */mvar-setup) echo 'echo "sets up"' ;;
  */mvar-train) [[ -z "${FAIL:-}" ]] && echo 'echo "trains"' ;;
esac
"""


def test_a_tpu_that_boots_sets_itself_up_and_trains(tmp_path):
    executable(tmp_path / "curl", CURL)
    process = launch("tpu_startup.sh", {}, tmp_path)
    assert (process.returncode, process.stdout) == (0, "sets up\ntrains\n")
    process = launch("tpu_startup.sh", {"FAIL": "1"}, tmp_path)
    assert (process.returncode, process.stdout) == (1, "")


def free_port(ports):
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("no port is free")


def train_for_two_steps(command, variables, digits_directory, folder):
    """Trains with real processes, and returns the rows of the log.

    They compile without a cache: only process 0 would find anything in it, and the others would
    come later than collectives on a CPU wait.
    """
    variables = {
        **variables,
        "CONFIG": "digits.py:runlocal",
        "WORKDIR": str(folder / "run"),
        "PROGRAMS": "train",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "TFDS_DATA_DIR": digits_directory,
    }
    flags = "--config.training.steps=2 --config.training.log_every=1"
    process = launch(f"{command} {flags}", variables, folder, timeout=600)
    logs = [*folder.glob("*.log"), *folder.glob("run/logs/*.log")]
    output = "\n".join(f"{path.name}:\n{path.read_text()}" for path in logs)
    assert process.returncode == 0, process.stderr + output
    assert len(logs) == 2
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").open()]


@pytest.mark.slow
def test_processes_and_slurm_train_alike(slurm, digits_directory, tmp_path):
    folders = tmp_path / "explicit", tmp_path / "slurm"
    for folder in folders:
        folder.mkdir()
    port = free_port(range(20000, 20100))
    variables = {"PROCESSES": "2", "CPU_DEVICES": "1", "PORT": str(port)}
    explicit = train_for_two_steps("processes.sh", variables, digits_directory, folders[0])
    # JAX's coordinator listens at 61440 plus the job's number modulo 4096.
    job = free_port(range(61500, 61600)) - 61440
    variables = {**slurm, "SLURM_JOB_ID": str(job), "FOLDER": str(folders[1])}
    variables |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    variables["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    found = train_for_two_steps("slurm.sbatch", variables, digits_directory, folders[1])
    assert [row["step"] for row in explicit] == [1, 2]
    assert [row["step"] for row in found] == [1, 2]
    losses = [row["loss"] for row in explicit]
    assert [row["loss"] for row in found] == pytest.approx(losses, rel=1e-6)
