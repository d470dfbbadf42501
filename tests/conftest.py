"""Tests compile many small programs and run each for milliseconds: XLA's optimiser takes longer than what it saves.

Without it test_decoder.py takes 40 % less CPU time. What is trained and spoken by `launch/quickstart.sh` is compiled
with it.
"""

import gc
import os
import sys
from pathlib import Path

import pytest

os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=0 {os.environ.get('XLA_FLAGS', '')}".strip()

_MOST_GIB = 1.5


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
  """Frees the programs of earlier modules once a process of tests holds much: they would add up to gigabytes."""
  yield
  if "jax" in sys.modules and _resident_gib() > _MOST_GIB:
    sys.modules["jax"].clear_caches()
    gc.collect()


def _resident_gib() -> float:
  pages = Path("/proc/self/statm")  # Linux only; elsewhere always
  return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**30 if pages.exists() else float("inf")
