"""The loop: what it leaves behind, when it does nothing, and every refusal."""

import json
import os
import subprocess

import numpy as np
import pytest

from omni_jax.checkpoint import store
from omni_jax.checkpoint.initialise import Start
from omni_jax.core import config
from omni_jax.core.errors import UserError
from omni_jax.train.loop import train
from omni_jax.train.metrics import read_metrics
from omni_jax.train.optimizer import Group, OptimizerConfig
from tests.train.stages import params_of
from tests.train.toy import ToyConfig, ToyData, make_run


@pytest.fixture(autouse=True)
def toy_can_be_stored(monkeypatch):
  """Lets the stored config of the toy model be imported back."""
  monkeypatch.setattr(config, "_PACKAGE", "tests")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """The stage folder of an undisturbed toy run of 8 steps."""
  return train(make_run(), tmp_path_factory.mktemp("finished"))


def test_a_finished_stage_returns_at_once_and_learns(finished, capsys):
  before = (finished / "metrics.jsonl").stat().st_mtime_ns
  assert train(make_run(), finished.parents[1]) == finished
  assert "already trained" in capsys.readouterr().out
  assert (finished / "metrics.jsonl").stat().st_mtime_ns == before
  assert store.latest_step(finished) == 8
  lines = read_metrics(finished)
  assert [line["step"] for line in lines] == list(range(1, 9))
  assert lines[-1]["loss"] < lines[0]["loss"]
  assert {"loss_unit", "accuracy_text", "gradient_norm", "learning_rate", "seconds", "tokens_per_second"} <= set(
    lines[0]
  )
  assert list((finished / "events").glob("events.*"))


def test_a_moved_folder_is_the_same_run(finished, tmp_path):
  moved = tmp_path / "elsewhere"
  os.symlink(finished.parents[1], moved)
  assert store.latest_step(train(make_run(), moved)) == 8


def test_the_model_is_rebuilt_from_the_folder_alone(finished):
  model_config, model = store.load_model(finished)
  assert model_config == make_run().model
  np.testing.assert_array_equal(model.head[...], params_of(finished)["head"])
  _, half = store.load_model(finished, cast="bfloat16")
  assert half.blocks.up[...].dtype == "bfloat16"


def test_another_run_is_refused_with_its_difference_unless_overwritten(tmp_path):
  stage = train(make_run(steps=2), tmp_path)
  changed = make_run(steps=2, optimizer=OptimizerConfig(learning_rate=5e-3))
  with pytest.raises(UserError, match=r"optimizer\.learning_rate: 0\.01 -> 0\.005"):
    train(changed, tmp_path)
  assert len(read_metrics(stage)) == 2
  train(make_run(steps=2, log_every=2, save_every=1), tmp_path)  # how it is run is no difference
  train(changed, tmp_path, overwrite=True)
  assert len(read_metrics(stage)) == 2


def test_freezing_changes_exactly_what_is_allowed(finished, tmp_path):
  groups = (Group("blocks", 0.0), Group("blocks", 0.5, layers=(1, 2)), Group("tokens", 0.0))
  optimizer = OptimizerConfig(learning_rate=1e-2, weight_decay=0.1, clip_norm=1.0, groups=groups)
  run = make_run(optimizer=optimizer, start=(Start(finished),), name="frozen")
  before, after = params_of(finished), params_of(train(run, tmp_path))
  np.testing.assert_array_equal(before["tokens"], after["tokens"])
  assert (before["head"] != after["head"]).all()
  for name in ("norm", "up", "down"):
    np.testing.assert_array_equal(before[f"blocks.{name}"][0], after[f"blocks.{name}"][0])
    assert (before[f"blocks.{name}"][1] != after[f"blocks.{name}"][1]).mean() > 0.9


def test_starting_from_another_stage_is_reported_in_full(finished, tmp_path, capsys):
  run = make_run(steps=1, start=(Start(finished, exclude="head"),))
  stage = train(run, tmp_path)
  report = json.loads((stage / "start.json").read_text())
  assert sorted(report["loaded"]) == ["blocks.down", "blocks.norm", "blocks.up", "tokens"]
  assert report["new"] == ["head"]
  assert "4 loaded, 1 new" in capsys.readouterr().out


def test_starting_from_another_vocabulary_is_refused(finished, tmp_path):
  model = ToyConfig(width=16, depth=2, vocab_size=40)
  with pytest.raises(UserError, match=r"tokens: \(32, 16\) in the checkpoint, \(40, 16\) in the model"):
    train(make_run(model=model, start=(Start(finished),)), tmp_path)
  with pytest.raises(UserError, match="take no parameter"):
    train(make_run(start=(Start(finished, include="nothing"),)), tmp_path, overwrite=True)
  with pytest.raises(UserError, match="no such stage"):
    train(make_run(start=(Start(tmp_path / "missing"),)), tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
  data = ToyData(rows=8, length=12, vocab_size=32, bad_from=40)
  with pytest.raises(UserError, match="at step 6"):
    train(make_run(data=data, log_every=7, save_every=2), tmp_path)
  assert store.latest_step(tmp_path / "stages/toy") == 4
  assert all(np.isfinite(leaf).all() for leaf in params_of(tmp_path / "stages/toy").values())


def test_data_that_ends_is_told(tmp_path):
  data = ToyData(rows=8, length=12, vocab_size=32, endless=False)
  with pytest.raises(UserError, match="the data ended"):
    train(make_run(data=data, steps=50), tmp_path)


def test_impossible_runs_are_refused(tmp_path):
  with pytest.raises(UserError, match="save_every 0"):
    make_run(save_every=0)
  with pytest.raises(UserError, match="number of devices"):
    train(make_run(mesh="fsdp=3"), tmp_path)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
  mounted = tmp_path / "small"
  mounted.mkdir()
  mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)], capture_output=True)
  if mount.returncode:
    pytest.skip("cannot mount a small file system here")
  try:
    run = make_run(save_every=2)
    ballast = mounted / "ballast"
    first = train(make_run(steps=2, name="earlier"), mounted)
    ballast.write_bytes(os.urandom(700_000))
    with pytest.raises(UserError, match="the disk is full"):
      train(make_run(name="toy", model=ToyConfig(width=128, depth=2, vocab_size=32)), mounted)
    assert store.latest_step(first) == 2
    ballast.unlink()
    assert store.latest_step(train(run, mounted, overwrite=True)) == 8
  finally:
    subprocess.run(["umount", str(mounted)], check=True)
