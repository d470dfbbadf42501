"""A save that is cut off by kill -9 never leaves a checkpoint that loads wrong."""

import random
import subprocess
import sys

import pytest

from tests.devices import ROOT, environment


def kill_saves(folder, *, moments):
  seed = random.randrange(10**6)
  command = [sys.executable, "-m", "tests.checkpoint.interrupted", str(folder), str(moments), str(seed)]
  done = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=1800)
  assert done.returncode == 0, f"seed {seed}: {done.stdout[-500:]}\n{done.stderr[-3000:]}"
  return done.stdout


def test_a_save_killed_at_two_random_moments(tmp_path):
  assert "2 kills" in kill_saves(tmp_path, moments=2)


@pytest.mark.slow
def test_a_save_killed_at_fifty_random_moments(tmp_path):
  """About three minutes."""
  assert "50 kills" in kill_saves(tmp_path, moments=50)
