#!/usr/bin/env bash
# Trains the tokenizer, then the trunk, on one machine. With --dry-run it prints the commands.
#   CONFIG=configs/digits.py WORKDIR=runs/digits launch/local.sh [--dry-run] [--config.a.b=value ...]
set -euo pipefail
: "${CONFIG:?expected a config file, as in CONFIG=configs/digits.py}"
: "${WORKDIR:?expected a working directory, as in WORKDIR=runs/digits}"
dry_run=
if [[ "${1:-}" == "--dry-run" ]]; then
  dry_run=1
  shift
fi
for program in train_tokenizer train; do
  command=("${PYTHON:-python3}" -m "mvar_jax.$program" --config="$CONFIG" --workdir="$WORKDIR" "$@")
  if [[ -n "$dry_run" ]]; then
    printf '%q ' "${command[@]}"
    echo
  else
    "${command[@]}"
  fi
done
