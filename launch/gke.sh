#!/usr/bin/env bash
# Trains on TPUs of a GKE cluster, as a JobSet that xpk makes. A JobSet that is interrupted starts
# again by itself, and resumes.
#   NAME=digits CLUSTER=tpus ZONE=us-west4-a TPU_TYPE=v5litepod-16 DOCKER_IMAGE=... \
#   CONFIG=configs/digits.py WORKDIR=gs://my-bucket/digits \
#   launch/gke.sh create|list|logs|delete [--dry-run] [--config.a.b=value ...]
set -euo pipefail
launch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$launch/common.sh"

# Sets `image` to the flags that say what the pods hold: an image with a clone as its working
# directory, or one with the requirements only, to which xpk adds this clone.
image_flags() {
  if [[ -n "${DOCKER_IMAGE:-}" ]]; then
    image=(--docker-image="$DOCKER_IMAGE")
  else
    require BASE_DOCKER_IMAGE "an image with Python and mvar_jax's requirements, or DOCKER_IMAGE"
    image=(--base-docker-image="$BASE_DOCKER_IMAGE" --script-dir="$(dirname "$launch")")
  fi
}

# xpk restarts after the exit codes 42 and 127-255. 143 is local.sh's for a training that was
# stopped; 1 is a process that lost another.
create() {
  require_training
  require TPU_TYPE "a kind and number of TPU chips, as in TPU_TYPE=v5litepod-16"
  in_bucket ||
    require STORAGE "the name of a storage that was attached to the cluster by xpk storage attach"
  image_flags
  run xpk workload create --workload="$NAME" "${place[@]}" --tpu-type="$TPU_TYPE" \
    "${image[@]}" ${STORAGE:+--storage="$STORAGE"} --max-restarts="${MAX_RESTARTS:-10}" \
    --restart-on-exit-codes=1 --termination-grace-period-seconds=300 \
    --command="exec $(quote env CONFIG="$CONFIG" WORKDIR="$WORKDIR" PROGRAMS="${programs[*]}" \
      launch/local.sh --distributed "${arguments[@]:1}")"
}

action=${arguments[0]:-}
choose action create list logs delete
require CLUSTER "a cluster that xpk made, as in CLUSTER=tpus"
require ZONE "its zone, as in ZONE=us-west4-a"
place=(--cluster="$CLUSTER" --zone="$ZONE")
[[ "$action" == list ]] || require NAME "a name for the workload, as in NAME=digits"
case "$action" in
  create) create ;;
  list) run xpk workload list "${place[@]}" ;;
  logs)
    first=xpk.google.com/workload="$NAME",batch.kubernetes.io/job-completion-index=0
    run kubectl logs --selector="$first" --all-containers --tail=100 --follow
    ;;
  delete) run xpk workload delete --workload="$NAME" "${place[@]}" ;;
esac
