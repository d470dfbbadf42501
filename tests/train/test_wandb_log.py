"""What Weights & Biases is told: written by the real package, offline."""

import sys
import time
import wave

import numpy as np
import pytest

from omni_jax.core import config
from omni_jax.core.errors import UserError
from omni_jax.train.loop import train
from omni_jax.train.wandb_log import WandbLog
from tests.train.toy import make_run


def written_to(stage, *words, lives):
  """Returns the files of as many lives once all hold these words; the process that writes them ends after ours."""
  for _ in range(300):
    files = list(stage.glob("wandb/offline-run-*/*.wandb"))
    if all(word in path.read_bytes() for path in files for word in words):
      break
    time.sleep(0.1)
  else:
    raise AssertionError(f"{words} are not in {files}")
  assert len(files) == lives
  return files


def test_scalars_and_sounds_of_a_stage_are_one_run(tmp_path, monkeypatch):
  monkeypatch.setenv("WANDB_MODE", "offline")
  identities = set()
  for step in (1, 2):  # two lives
    log = WandbLog(tmp_path, project="omni", card={"model": "small"})
    log.scalars(step, {"step": step, "loss": 2.5})
    log.sound(step, "made", np.full(1600, 0.5, np.float32), sample_rate=16_000)
    log.close()
    identities.add((tmp_path / "wandb.txt").read_text())
  (identity,) = identities
  written = written_to(tmp_path, b"loss", b"2.5", lives=2)
  assert all(identity.strip() in path.name for path in written)
  with wave.open(str(next(tmp_path.rglob("made_*.wav")))) as sound:
    assert (sound.getframerate(), sound.getnframes()) == (16_000, 1600)


def test_a_run_tells_it(tmp_path, monkeypatch):
  monkeypatch.setattr(config, "_PACKAGE", "tests")
  monkeypatch.setenv("WANDB_MODE", "offline")
  stage = train(make_run(steps=2), tmp_path, wandb="omni")
  written_to(stage, b"gradient_norm", b"tokens_per_second", b"goodput", lives=1)


def test_the_package_is_asked_for(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  with pytest.raises(UserError, match=r"omni_jax\[wandb\]"):
    WandbLog(tmp_path, project="omni", card={})


def test_nobody_is_let_in_without_a_key(tmp_path, monkeypatch):
  monkeypatch.setenv("WANDB_MODE", "online")
  monkeypatch.setenv("WANDB_API_KEY", "too-short")
  monkeypatch.setenv("WANDB_BASE_URL", "http://localhost:9")
  with pytest.raises(UserError, match="wandb login"):
    WandbLog(tmp_path, project="omni", card={})
