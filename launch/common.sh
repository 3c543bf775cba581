# shellcheck shell=bash disable=SC2034 # the scripts use what is set here
# What the scripts of this directory share. They source it, which takes --dry-run out of the
# arguments; the others are in `arguments`.
shopt -s inherit_errexit

# Ends the script as the programs end on bad input: one sentence, exit code 2.
fail() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}

# require NAME WHAT ends the script unless the variable NAME has a value.
require() {
  [[ -n "${!1:-}" ]] || fail "$1 is missing, expected $2."
}

# What every training needs.
require_training() {
  require CONFIG "a config file, as in CONFIG=configs/digits.py"
  require WORKDIR "a working directory, as in WORKDIR=runs/digits"
  in_bucket || [[ "$WORKDIR" != *://* ]] ||
    fail "WORKDIR is $WORKDIR, expected a path, or a folder of a bucket, gs://BUCKET/FOLDER."
}

# Whether the working directory is in a bucket.
in_bucket() { [[ "${WORKDIR:-}" == gs://* ]]; }

# Sets `logs` to the folder of this machine for what programs print: WORKDIR$1, or for a run in a
# bucket, where files do not grow, LOGS (logs).
log_folder() {
  logs=$WORKDIR$1
  ! in_bucket || logs=${LOGS:-logs}
}

# choose NAME CHOICE... ends the script unless the variable NAME is one of the choices.
choose() {
  local choice
  for choice in "${@:2}"; do
    [[ "${!1:-}" != "$choice" ]] || return 0
  done
  fail "$1 is ${!1:-missing}, expected one of: ${*:2}."
}

# Prints a command on one line that a shell reads as the same command.
quote() {
  local word words=()
  for word in "$@"; do
    [[ "$word" =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]] || word=${word@Q}
    words+=("$word")
  done
  printf '%s\n' "${words[*]}"
}

# Runs a command; in a dry run, prints it.
run() {
  if [[ -n "$dry_run" ]]; then quote "$@"; else "$@"; fi
}

# Sets `training` to the command of the program $1; further arguments are flags.
training_command() {
  training=("${PYTHON:-python3}" -m "mvar_jax.$1" --config="$CONFIG" --workdir="$WORKDIR" "${@:2}")
}

# Waits for the processes in `running`. When one fails, the others get SIGTERM, and SIGKILL
# after GRACE_SECONDS. SIGTERM and SIGINT reach all as SIGTERM, at which a trainer saves and
# ends well: that is told from a finished training by 143. Returns the first failure's exit code.
watch() {
  local index code failure=0 deadline=0
  [[ -z "$stopped" ]] || signal TERM
  while ((${#running[@]})); do
    sleep 0.2 || true # it gets the signals of the group as well
    for index in "${!running[@]}"; do
      kill -0 "${running[index]}" 2>/dev/null && continue
      code=0
      wait "${running[index]}" || code=$?
      unset "running[index]"
      ((code != 75)) || code=143 # another machine was asked to stop, or did not come
      ((code == 0 || failure != 0)) && continue
      failure=$code deadline=$((SECONDS + ${GRACE_SECONDS:-60}))
      printf 'process %s ended with exit code %s\n' "$index" "$code" >&2
      signal TERM
    done
    ((failure == 0 || SECONDS < deadline)) || signal KILL
  done
  [[ -z "$stopped" || "$failure" != 0 ]] || failure=143
  return "$failure"
}

signal() {
  ((${#running[@]} == 0)) || kill -s "$1" "${running[@]}" 2>/dev/null || true
}

# Whoever presses Ctrl-C twice does not wait for anything to be saved.
stop() {
  if [[ "$stopped$1" == INTINT ]]; then signal KILL; else signal TERM; fi
  stopped=$1
}

# begin INDEX COMMAND... starts a process, in a group of its own: of a signal to the whole group
# of this script it would get two, ours too, and a trainer ends at the second without saving.
begin() {
  trap 'stop TERM' TERM
  trap 'stop INT' INT
  set -m
  "${@:2}" &
  set +m
  running[$1]=$!
}

# Runs a training under watch; in a dry run, prints it.
supervise() {
  if [[ -n "$dry_run" ]]; then
    quote "$@"
    return
  fi
  begin 0 "$@"
  watch
}

dry_run='' stopped='' arguments=() running=()
for argument in "$@"; do
  if [[ "$argument" == --dry-run ]]; then dry_run=1; else arguments+=("$argument"); fi
done
read -ra programs <<<"${PROGRAMS:-train_tokenizer train}"
