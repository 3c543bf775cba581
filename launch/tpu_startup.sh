#!/usr/bin/env bash
# Runs on each machine of a Cloud TPU whenever it boots: sets it up and trains, or goes on
# training. tpu_vm.sh put both commands into the TPU's metadata.
set -euo pipefail

attribute() {
  curl --fail --silent --show-error --header "Metadata-Flavor: Google" \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

setup=$(attribute mvar-setup)
train=$(attribute mvar-train)
bash -euo pipefail -c "$setup"
bash -euo pipefail -c "$train"
