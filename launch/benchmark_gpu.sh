#!/usr/bin/env bash
# Measures the library on this machine's GPU within LIMIT_SECONDS (600), what tells most first.
# Figures and what was said go to OUT.
#   OUT=figures launch/benchmark_gpu.sh [--dry-run]
# REFERENCE, a checkout of the official VAR, and REFERENCE_PYTHON, an interpreter with PyTorch, add
# ratios to the official code.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

require OUT "a folder for the figures, as in OUT=figures"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
run mkdir -p "$OUT"

# measure NAME COMMAND... runs a command while there is time and keeps what it says in OUT/NAME.txt.
# One that fails does not end the others.
measure() {
  local left=$((${LIMIT_SECONDS:-600} - SECONDS)) code=0
  if [[ -n "$dry_run" ]]; then
    quote "${@:2}"
  elif ((left <= 0)); then
    printf '%s: no time left\n' "$1"
  else
    timeout "$left" "${@:2}" >"$OUT/$1.txt" 2>&1 || code=$?
    printf '%s: exit code %s after %s s in all\n' "$1" "$code" "$SECONDS"
  fi
}

# benchmark NAME COMMAND CONFIG FLAG... measures a command of the benchmark.
benchmark() {
  measure "$1" "$python" -m mvar_jax.benchmark "$2" --config="$3" --json="$OUT/$1.json" "${@:4}"
}

reference=()
if [[ -n "${REFERENCE:-}" ]]; then
  reference=(--reference="$REFERENCE" --reference_python="${REFERENCE_PYTHON:-python3}")
fi

golden=("$root"/tests/golden/{comp_attention,comp_mamba2,mvar_tiny_a_l2,var_tiny_a_nol2,vqvae_tiny_a}.npz)
for precision in float32 tensorfloat32; do
  measure "conformance_$precision" env JAX_DEFAULT_MATMUL_PRECISION="$precision" \
    "$python" "$root/tests/conformance.py" "${golden[@]}"
done
benchmark var_d16 sample var_imagenet256.py:d16 --batch=1,16,64,256 "${reference[@]}"
benchmark mvar_d16 sample mvar_imagenet256.py:d16 --batch=1,16,64,256
benchmark var_d16_training train var_imagenet256.py:d16 --batch=32 "${reference[@]}"
benchmark mvar_d16_training train mvar_imagenet256.py:d16 --batch=32
measure digits "$python" -m mvar_jax.quickstart --preset=runlocal --workdir="$OUT/digits"
for time in once again; do
  measure "digits_$time" "$python" -m mvar_jax.sample --workdir="$OUT/digits" --labels=3,7 \
    --out="$OUT/$time.npz"
done
measure same_bits cmp "$OUT/once.npz" "$OUT/again.npz"
for size in d24 d30; do
  benchmark "var_$size" sample "var_imagenet256.py:$size" --batch=1,16,64
  benchmark "mvar_$size" sample "mvar_imagenet256.py:$size" --batch=1,16,64
done
benchmark var_d24_training train var_imagenet256.py:d24 --batch=16
benchmark mvar_d24_training train mvar_imagenet256.py:d24 --batch=16
