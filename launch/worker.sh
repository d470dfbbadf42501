#!/usr/bin/env bash
# What every host of a machine runs: installs, checks, trains. Sent by `omni pod`; can be run by hand on all hosts.
#
# Usage: bash launch/worker.sh MACHINE TRAIN_ARGUMENTS...
#        MACHINE is a TPU (v5p-128, 2xv6e-256) or gpu; for example:
#        bash launch/worker.sh v5e-8 --config configs/emova/full.py:emova_7b_align --workdir /mnt/bucket/emova
#
# Status: 0 done; 42 start it again somewhere else; 2 wrong input; 143 stopped by a signal, the step was saved.
set -euo pipefail
machine="${1:?worker: name a machine, for example v5p-128 or gpu}"
shift
cd "$(dirname "$0")/.."

case "$machine" in
  gpu) extra=cuda ;;
  *) extra=tpu ;;
esac
# A wheel that cannot be fetched now may be fetched later, or on another host.
source launch/setup.sh "train-$extra" || exit 42

environment="$(.venv/bin/omni pod env --machine "$machine")" || exit 2
eval "$environment"

# A signal reaches the training at once: it saves its step before it leaves.
child=
trap '[ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT
run() {
  "$@" &
  child=$!
  local status=0
  wait "$child" || status=$?
  # The first wait ends when the signal comes; the training is still saving then.
  if kill -0 "$child" 2>/dev/null; then status=0; wait "$child" || status=$?; fi
  return "$status"
}

run .venv/bin/omni pod preflight --machine "$machine" || exit $?
run .venv/bin/omni train "$@"
