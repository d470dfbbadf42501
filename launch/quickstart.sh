#!/usr/bin/env bash
# The whole journey on one CPU machine: corpus, speech tokenizer, style encoder, vocoder, the language model's stages,
# export, conversion, evaluation, report. Every step is cached: a second run is instant, an interrupted one goes on.
#
# Usage: bash launch/quickstart.sh             half an hour on 2 cores, result in runs/tiny/report.html
#        bash launch/quickstart.sh --smoke     the same steps on a few samples, minutes, result in runs/smoke/
#        bash launch/quickstart.sh --workdir DIR
#        bash launch/quickstart.sh --system mini_omni      or speech_gpt, or emova (now); several systems in one
#                                              folder share corpus and speech parts, and the report compares them
#
# Speech parts and language model train side by side, each on half of the cores: on a CPU two small trainings that share
# every core take half as long again as two that have their own.
#
#   speech      tokenizer  style  encode  vocoder_filters  vocoder  export  tune_without_triples (EMOVA)
#   emova       pretrain  prealign ........ align  tune  convert
#   mini_omni   hearing  base ............. codes  adapters  language  omni
#   speech_gpt  ........................... units  cross_modal  chain
set -euo pipefail
cd "$(dirname "$0")/.."

profile=tiny
system=emova
work=""
while [ $# -gt 0 ]; do
  case "$1" in
    --smoke) profile=smoke ;;
    --system) system="${2:?--system needs a name}"; shift ;;
    --workdir) work="${2:?--workdir needs a folder}"; shift ;;
    -h|--help) sed -n '2,17p' "$0" | cut -c3-; exit 0 ;;
    *) echo "quickstart: unknown argument '$1' (known: --smoke, --system NAME, --workdir DIR)" >&2; exit 2 ;;
  esac
  shift
done
case "$system" in
  emova|mini_omni|speech_gpt) ;;
  *) echo "quickstart: unknown system '$system' (known: emova, mini_omni, speech_gpt)" >&2; exit 2 ;;
esac
work="${work:-runs/$profile}"

source launch/setup.sh laptop
omni=.venv/bin/omni
mkdir -p "$work/steps"
begin=$SECONDS

is_done() {
  [ -e "$work/steps/$1" ] && [ -z "$(find omni_jax configs -name '*.py' -newer "$work/steps/$1" -print -quit)" ]
}

# step NAME COMMAND...: runs once; again only if the library or the configs changed since (each verb then decides by itself
# what of its work still holds). Seconds go to steps/NAME. The command is waited for in the
# background, so that a signal reaches it at once: a training saves before it leaves.
step() {
  local name="$1"; shift
  if is_done "$name"; then
    echo "== $name: done before ($(cat "$work/steps/$name") s)"
    return
  fi
  echo "== $name"
  local start=$SECONDS
  "$@" &
  child=$!
  wait "$child" || { echo "== $name: failed or stopped" >&2; exit 1; }
  echo $((SECONDS - start)) > "$work/steps/$name"
}

# train STAGE [CONFIG]: the stage of configs/emova/STAGE.py, or of another config.
train() { step "$1" "$omni" train --config "configs/${2:-emova/$1}.py:$profile" --workdir "$work"; }

# wait_for NAME PID: until the other lane, process PID, has done a step.
wait_for() {
  until is_done "$1"; do
    kill -0 "$2" 2>/dev/null || is_done "$1" || { echo "== waiting for $1, but its lane has stopped" >&2; exit 1; }
    sleep 1
  done
}

# on_cores LIST: moves this lane to these cores; where there is no taskset (macOS) lanes share them all.
on_cores() {
  if [ -n "$1" ] && command -v taskset >/dev/null 2>&1; then taskset -cp "$1" "$BASHPID" >/dev/null; fi
}

stop_child() { [ -n "${child:-}" ] && kill -TERM "$child" 2>/dev/null && wait "$child"; exit 143; }

speech_lane() {
  trap stop_child TERM INT
  on_cores "$1"
  train tokenizer
  train style
  step encode "$omni" encode --workdir "$work"
  train vocoder_filters
  train vocoder
  step export "$omni" export vocoder --workdir "$work"
  if [ "$system" != emova ]; then return; fi
  wait_for align "$$"
  train tune_without_triples
}

language_lane() {
  on_cores "$1"
  "language_of_$system"
}

language_of_emova() {
  train pretrain
  train prealign
  wait_for encode "$speech"
  train align
  train tune
  step convert "$omni" convert export --workdir "$work"
}

language_of_mini_omni() {
  train mini_omni_hearing mini_omni/hearing
  train mini_omni_base mini_omni/base
  wait_for tokenizer "$speech"
  step codes "$omni" encode --codec tokenizer --sets speech dialogue --workdir "$work"
  train mini_omni_adapters mini_omni/adapters
  train mini_omni_language mini_omni/language
  train mini_omni mini_omni/omni
}

language_of_speech_gpt() {
  wait_for encode "$speech"
  train speech_gpt_units speechgpt/units
  train speech_gpt_cross speechgpt/cross_modal
  train speech_gpt speechgpt/chain
}

# evaluate_other STAGE: a system beside EMOVA, and a cascade of the best parts there are: EMOVA's, or its own.
evaluate_other() {
  local cascade="$1" few=""
  if is_done tune; then cascade=tune; fi
  if [ "$profile" = smoke ]; then few="--limit 4"; fi
  step "evaluate_$system" "$omni" evaluate --workdir "$work" --system "$system" $few
  step "evaluate_cascade_$cascade" "$omni" evaluate --workdir "$work" --system cascade --set "stage=$cascade" $few
  step "report_$system" "$omni" report --workdir "$work"
}

halves() {
  .venv/bin/python - <<'PYTHON'
import os

cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
middle = len(cores) // 2
for half in (cores[:middle], cores[middle:], cores):
  print(",".join(map(str, half)) if middle else "")
PYTHON
}

step corpus "$omni" corpus --config "configs/emova/corpus.py:$profile" --workdir "$work"
step vocabulary "$omni" vocabulary --config "configs/emova/vocabulary.py:$profile" --workdir "$work"
{ read -r first; read -r second; read -r all; } < <(halves)
speech_log="$work/steps/speech.log"
echo "== speech parts train beside the language model; their progress: tail -f $speech_log"
speech_lane "$second" > "$speech_log" 2>&1 &
speech=$!
trap 'kill -TERM "$speech" ${child:-} 2>/dev/null; wait; exit 143' INT TERM
trap 'kill -TERM "$speech" 2>/dev/null || true' EXIT
language_lane "$first"
wait "$speech" || { tail -n 20 "$speech_log" >&2; echo "quickstart: the speech lane failed, see $speech_log" >&2; exit 1; }
trap - EXIT
on_cores "$all"
if [ "$system" = emova ]; then
  step evaluate "$omni" evaluate --workdir "$work"
  step report "$omni" report --workdir "$work"
else
  evaluate_other "$system"
fi

echo
echo "the report: $work/report.html   ($((SECONDS - begin)) s)"
echo "talk to it: $omni chat --workdir $work --text 'how are you' --out reply.wav"
if [ -t 1 ]; then
  for opener in xdg-open open; do
    if command -v "$opener" >/dev/null 2>&1; then "$opener" "$work/report.html" >/dev/null 2>&1 || true; break; fi
  done
fi
