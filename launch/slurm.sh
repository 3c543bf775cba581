#!/usr/bin/env bash
# Submits a training on GPUs to SLURM. sbatch's own variables (SBATCH_PARTITION, SBATCH_ACCOUNT,
# SBATCH_TIMELIMIT, ...) say where and how long. Submitted again, it resumes.
#   NODES=2 GPUS_PER_NODE=8 CONFIG=digits.py WORKDIR=runs/digits launch/slurm.sh [--dry-run] [...]
set -euo pipefail
launch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$launch/common.sh"

require_training
require NODES "a number of machines, as in NODES=2"
require GPUS_PER_NODE "the number of GPUs to use in each, as in GPUS_PER_NODE=8"
TASK_PER=${TASK_PER:-gpu}
choose TASK_PER gpu node
tasks=$GPUS_PER_NODE
[[ "$TASK_PER" == gpu ]] || tasks=1

log_folder ""
run mkdir -p "$logs"
# SLURM runs a copy of the batch script, which finds this directory by LAUNCH.
run sbatch --nodes="$NODES" --gpus-per-node="$GPUS_PER_NODE" --ntasks-per-node="$tasks" \
  --cpus-per-task="${CPUS_PER_TASK:-8}" --output="$logs/slurm-%j.log" \
  --export="ALL,LAUNCH=$launch" "$launch/slurm.sbatch" "${arguments[@]}"
