#!/usr/bin/env bash
# Trains the tokenizer, then the trunk, on this machine. Run again, it resumes.
#   CONFIG=configs/digits.py WORKDIR=runs/digits launch/local.sh [--dry-run] [--config.a.b=value ...]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

require_training
for program in "${programs[@]}"; do
  training_command "$program" "${arguments[@]}"
  supervise "${training[@]}"
done
