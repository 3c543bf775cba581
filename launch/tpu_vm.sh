#!/usr/bin/env bash
# Trains on a Cloud TPU of one or more machines. `create` queues for the TPU, which sets itself up
# and trains as soon as it boots; `setup` and `train` do so again. To resume after preemption:
# delete, then create.
#   NAME=digits ZONE=us-west4-a ACCELERATOR=v5litepod-16 REPOSITORY=https://... \
#   CONFIG=configs/digits.py WORKDIR=gs://my-bucket/digits \
#   launch/tpu_vm.sh create|setup|train|status|logs|delete [--dry-run] [--config.a.b=value ...]
set -euo pipefail
launch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$launch/common.sh"

clone=/opt/mvar_jax
mount=/mnt/storage
gcsfuse=https://github.com/GoogleCloudPlatform/gcsfuse/releases/download/v3.11.1/gcsfuse_3.11.1_amd64.deb

# The software that Google recommends for JAX on each kind of TPU.
runtime_version() {
  case "$ACCELERATOR" in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v[234]-*) echo tpu-ubuntu2204-base ;;
    *) fail "ACCELERATOR is $ACCELERATOR, expected v6e-N, v5p-N, v5litepod-N or v4-N." ;;
  esac
}

# The machines must see each other's files at once, so gcsfuse remembers nothing of them. Without
# STORAGE nothing is mounted.
mount_command() {
  local install="apt-get -o DPkg::Lock::Timeout=600 install --yes"
  case "${STORAGE:-}" in
    "") ;;
    gs://*)
      echo "curl --fail --silent --show-error --location --output ./gcsfuse.deb $gcsfuse"
      echo "$install ./gcsfuse.deb"
      echo "mkdir -p $mount"
      echo "{ mountpoint -q $mount || gcsfuse --metadata-cache-ttl-secs=0" \
        "--metadata-cache-negative-ttl-secs=0 $(quote "${STORAGE#gs://}") $mount; }"
      ;;
    *:/*)
      echo "$install nfs-common"
      echo "mkdir -p $mount"
      echo "{ mountpoint -q $mount || mount -t nfs $(quote "$STORAGE") $mount; }"
      ;;
    *) fail "STORAGE is $STORAGE, expected a bucket, gs://NAME, or a file share, ADDRESS:/SHARE." ;;
  esac
}

# What root runs on each machine before training; it may run again. The TPU's own Python is older
# than the library takes.
setup_command() {
  local steps extras=tpu
  ! in_bucket || extras=tpu,gcs
  steps=$(
    echo "export HOME=/root" # a machine that boots has none
    echo "curl -LsSf https://astral.sh/uv/install.sh | env UV_UNMANAGED_INSTALL=/usr/local/bin sh"
    echo "{ test -d $clone || git clone $(quote "$REPOSITORY") $clone; }"
    echo "git -C $clone fetch origin $(quote "${REVISION:-main}")"
    echo "git -C $clone checkout --detach FETCH_HEAD"
    echo "uv venv --allow-existing --python 3.12 $clone/.venv"
    echo "uv pip install --python $clone/.venv/bin/python --editable ${clone}[$extras]"
    mount_command
  )
  echo "${steps//$'\n'/; }"
}

# What root runs on each machine to train, without waiting for it: a service, which gets SIGTERM
# when the machine shuts down, and starts again when another machine was lost, at most 5 times an
# hour; bad input, exit code 2, would fail again.
train_command() {
  quote systemd-run --unit=mvar_jax --collect --working-directory="$clone" \
    --property=KillMode=mixed --property=TimeoutStopSec=600 \
    --property=Restart=on-failure --property=RestartPreventExitStatus=2 \
    --property=RestartSec=30 --property=StartLimitIntervalSec=3600 --property=StartLimitBurst=5 \
    --setenv=HOME=/root --setenv=PYTHON="$clone/.venv/bin/python" --setenv=CONFIG="$CONFIG" \
    --setenv=WORKDIR="$WORKDIR" --setenv=PROGRAMS="${programs[*]}" \
    "$clone/launch/local.sh" --distributed "${arguments[@]:1}"
}

create() {
  local setup train runtime
  require ACCELERATOR "a kind and number of TPU chips, as in ACCELERATOR=v5litepod-16"
  require_setup
  require_train
  runtime=$(runtime_version)
  setup=$(setup_command)
  train=$(train_command)
  run gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" --zone="$ZONE" \
    --accelerator-type="$ACCELERATOR" --runtime-version="$runtime" ${SPOT:+--spot} \
    --metadata="^:::^mvar-setup=$setup:::mvar-train=$train" \
    --metadata-from-file=startup-script="$launch/tpu_startup.sh"
}

require_setup() {
  in_bucket || require STORAGE "a bucket or a file share, as in STORAGE=gs://my-bucket"
  require REPOSITORY "where the machines clone mvar_jax from, as in REPOSITORY=https://..."
}

require_train() {
  require_training
  in_bucket || [[ "$WORKDIR" == "$mount"/* ]] ||
    fail "WORKDIR is $WORKDIR, expected a folder of a bucket, gs://BUCKET/FOLDER, or a directory in \
$mount, where STORAGE is mounted."
}

# on_machines WHICH COMMAND runs a command as root on the machine WHICH, or on all.
on_machines() {
  run gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker="$1" \
    --command="sudo $(quote bash -euo pipefail -c "$2")"
}

action=${arguments[0]:-}
choose action create setup train status logs delete
require NAME "a name for the TPU, as in NAME=digits"
require ZONE "a zone with such TPUs, as in ZONE=us-west4-a"
case "$action" in
  create) create ;;
  setup)
    require_setup
    setup=$(setup_command)
    on_machines all "$setup"
    ;;
  train)
    require_train
    train=$(train_command)
    on_machines all "$train"
    ;;
  status)
    run gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" \
      --format="value(state.state)"
    ;;
  logs)
    on_machines "${MACHINE:-0}" \
      "journalctl --unit=google-startup-scripts --unit=mvar_jax --lines=100 --follow"
    ;;
  delete) run gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force ;;
esac
