#!/usr/bin/env bash
# Sets everything up on a machine with Python 3.11+, pip and (Debian) apt, then checks style and runs the tests.
# Usage: bash launch/test.sh [pytest arguments]      for example: bash launch/test.sh -m slow
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/setup.sh dev

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/basedpyright --pythonpath .venv/bin/python
.venv/bin/python -m pytest -n "${TEST_WORKERS:-2}" --dist loadfile "$@"
