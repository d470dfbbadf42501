#!/usr/bin/env bash
# Sourced by the other scripts: a virtual environment with what the named extra asks for, and flite where apt can give it.
# Usage: source launch/setup.sh EXTRA        (EXTRA is an extra of setup.py: laptop, dev, ...)
set -euo pipefail

extra="$1"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

python="${PYTHON:-python3}"
"$python" - <<'PY' || { echo "setup: Python 3.11 or newer is needed; name one with PYTHON=/path/to/python" >&2; exit 2; }
import sys
sys.exit(sys.version_info < (3, 11))
PY

# One stamp per extra and per version of setup.py: a second run installs nothing.
stamp=".venv/.installed-$extra-$(cksum < setup.py | cut -d' ' -f1)"
if [ ! -e "$stamp" ]; then
  echo "setup: installing omni_jax[$extra] into .venv (once; a few minutes)"
  # Told by `return`: where a caller asks for this file's status, as launch/worker.sh does, `set -e` is off in here.
  [ -x .venv/bin/python ] || "$python" -m venv .venv || return 1
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extra]" || return 1
  touch "$stamp"
fi

# Machines that only train make no corpus.
if [[ "$extra" != train-* ]] && ! command -v flite >/dev/null 2>&1; then
  if command -v apt-get >/dev/null 2>&1; then
    sudo=""; [ "$(id -u)" = 0 ] || sudo="sudo -n"
    echo "setup: installing flite (speech synthesis) with apt"
    { $sudo apt-get update -qq && $sudo apt-get install -y -qq flite; } >/dev/null 2>&1 || true
  fi
  command -v flite >/dev/null 2>&1 || echo "setup: flite cannot be had here; going on with espeak-ng voices only (no synthesis WER will be measured)"
fi

# Matrix products are the whole work here: let XLA keep what it compiled between runs.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/omni_jax/xla}"
