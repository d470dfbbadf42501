#!/usr/bin/env bash
# The whole journey on one CPU machine: corpus, speech tokenizer, style encoder, vocoder, the language model's stages,
# export, conversion, evaluation, report. Every step is cached: a second run is instant, an interrupted one goes on.
#
# Usage: bash launch/quickstart.sh             meant for half an hour on 2 cores, result in runs/tiny/report.html
#        bash launch/quickstart.sh --smoke     the same steps on a few samples, three minutes, result in runs/smoke/
#        bash launch/quickstart.sh --workdir DIR
set -euo pipefail
cd "$(dirname "$0")/.."

profile=tiny
work=""
while [ $# -gt 0 ]; do
  case "$1" in
    --smoke) profile=smoke ;;
    --workdir) work="${2:?--workdir needs a folder}"; shift ;;
    -h|--help) sed -n '2,8p' "$0" | cut -c3-; exit 0 ;;
    *) echo "quickstart: unknown argument '$1' (known: --smoke, --workdir DIR)" >&2; exit 2 ;;
  esac
  shift
done
work="${work:-runs/$profile}"

source launch/setup.sh laptop
omni=.venv/bin/omni
mkdir -p "$work/steps"

# step NAME COMMAND...: runs once; again only if the library or the configs changed since (each verb then decides by itself
# what of its work still holds). Seconds go to steps/NAME, which the report reads.
step() {
  local name="$1"; shift
  local stamp="$work/steps/$name"
  if [ -e "$stamp" ] && [ -z "$(find omni_jax configs -name '*.py' -newer "$stamp" -print -quit)" ]; then
    echo "== $name: done before ($(cat "$stamp") s)"
    return
  fi
  echo "== $name"
  local start=$SECONDS
  "$@"
  echo $((SECONDS - start)) > "$stamp"
}

train() { step "$1" "$omni" train --config "configs/emova/$1.py:$profile" --workdir "$work"; }

begin=$SECONDS
step corpus "$omni" corpus --config "configs/emova/corpus.py:$profile" --workdir "$work"
step vocabulary "$omni" vocabulary --config "configs/emova/vocabulary.py:$profile" --workdir "$work"
train tokenizer
train style
step encode "$omni" encode --workdir "$work"
train vocoder
train pretrain
train prealign
train align
train tune
train tune_without_triples
step export "$omni" export vocoder --workdir "$work"
step convert "$omni" convert --workdir "$work"
step evaluate "$omni" evaluate --workdir "$work"
step report "$omni" report --workdir "$work"

echo
echo "the report: $work/report.html   ($((SECONDS - begin)) s)"
echo "talk to it: $omni chat --workdir $work --text 'how are you' --out reply.wav"
if [ -t 1 ]; then
  for opener in xdg-open open; do
    if command -v "$opener" >/dev/null 2>&1; then "$opener" "$work/report.html" >/dev/null 2>&1 || true; break; fi
  done
fi
