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

# A signal reaches the training at once, which saves its step before it leaves; before it has begun there is none to save.
child=
interrupted=
stop() {
  [ -n "$child" ] || exit 143
  interrupted=yes
  kill -TERM "$child" 2>/dev/null || true
}
trap stop TERM INT
run() {
  local status
  "$@" &
  child=$!
  # A wait ends when a signal comes, while the training is still saving; waited for again, it tells how it ended.
  while :; do
    interrupted=
    status=0
    wait "$child" || status=$?
    [ -n "$interrupted" ] || break
  done
  child=
  return "$status"
}

run .venv/bin/omni pod preflight --machine "$machine" || exit $?
run .venv/bin/omni train "$@"
