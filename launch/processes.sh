#!/usr/bin/env bash
# Trains as several processes on this machine: one per GPU, or with CPU_DEVICES=K, each on K
# devices that the CPU pretends to be. Their output is in WORKDIR/logs, of a run in a bucket in LOGS
# (logs). Run again, it resumes.
#   PROCESSES=4 CONFIG=configs/digits.py WORKDIR=runs/digits launch/processes.sh [--dry-run] [...]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

require_training
require PROCESSES "how many processes to start, as in PROCESSES=4"
[[ "$PROCESSES" =~ ^[1-9][0-9]*$ ]] || fail "PROCESSES is $PROCESSES, expected a number from 1 on."
log_folder /logs
coordinator=127.0.0.1:${PORT:-$((20000 + $$ % 10000))}
IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES:-$(seq -s, 0 $((PROCESSES - 1)))}"
[[ -n "${CPU_DEVICES:-}" || ${#gpus[@]} -ge $PROCESSES ]] ||
  fail "CUDA_VISIBLE_DEVICES names ${#gpus[@]} GPUs, expected $PROCESSES, one per process."

# Sets `command` to the process $2 of the program $1.
process_command() {
  training_command "$1" --coordinator="$coordinator" --num_processes="$PROCESSES" \
    --process_id="$2" "${arguments[@]}"
  if [[ -n "${CPU_DEVICES:-}" ]]; then
    command=(env JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES="$CPU_DEVICES" "${training[@]}")
  else
    command=(env CUDA_VISIBLE_DEVICES="${gpus[$2]}" "${training[@]}")
  fi
}

# Runs all processes of the program $1; when one fails, shows how the logs end.
train_together() {
  local index files=() code=0
  for ((index = 0; index < PROCESSES; index++)); do
    process_command "$1" "$index"
    files+=("$logs/$1.$index.log")
    begin "$index" "${command[@]}" >>"${files[index]}" 2>&1
  done
  printf 'the output is in %s\n' "$(quote "${files[@]}")"
  watch || code=$?
  [[ "$code" == 0 || -n "$stopped" ]] || tail -n 5 "${files[@]}" >&2
  return "$code"
}

for program in "${programs[@]}"; do
  if [[ -n "$dry_run" ]]; then
    for ((process = 0; process < PROCESSES; process++)); do
      process_command "$program" "$process"
      quote "${command[@]}"
    done
  else
    mkdir -p "$logs"
    train_together "$program"
  fi
done
