"""The same bits after any stop, and the same losses on any mesh; each stop is a real signal to a real process."""

import shutil
import signal

import numpy as np
import pytest

from omni_jax.checkpoint import store
from omni_jax.core import config
from omni_jax.train.loop import train
from tests.train.stages import assert_same_bits, curve, in_process, params_of
from tests.train.toy import make_run


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  """The stage folder of the run of 12 steps that nobody stopped."""
  return train(make_run(steps=12), tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize(("signal_name", "after"), [("SIGKILL", 6), ("SIGTERM", 4), ("SIGINT", 3)])
def test_a_stopped_run_ends_in_the_same_bits(undisturbed, tmp_path, signal_name, after):
  code = f"main({str(tmp_path)!r}, signal_name={signal_name!r}, after_batches={after}, steps=12)"
  stage = tmp_path / "stages/toy"
  first = in_process(code)
  if signal_name == "SIGKILL":
    assert first.returncode == -signal.SIGKILL
  elif signal_name == "SIGTERM":
    assert first.returncode == 143 and "saved" in first.stdout, first.stderr
  else:
    assert "KeyboardInterrupt" in first.stderr and "saved" in first.stdout
  assert (store.latest_step(stage) or 0) < 12
  second = in_process(code)
  assert second.returncode == 0, second.stderr
  assert_same_bits(undisturbed, stage)
  assert curve(undisturbed) == curve(stage)


def test_eight_devices_give_the_losses_of_one(tmp_path, monkeypatch):
  single = train(make_run(steps=20), tmp_path / "one")
  meshes = {"fsdp": "fsdp=8", "mixed": "replica=2,fsdp=2,tensor=2"}
  calls = [f"main({str(tmp_path / name)!r}, steps=20, mesh={mesh!r})" for name, mesh in meshes.items()]
  result = in_process("; ".join(calls), devices=8)
  assert result.returncode == 0, result.stderr
  for name in meshes:
    np.testing.assert_allclose(np.array(curve(tmp_path / name / "stages/toy")), np.array(curve(single)), rtol=1e-5)
  # What eight devices wrote, one reads.
  monkeypatch.setattr(config, "_PACKAGE", "tests")
  _, model = store.load_model(tmp_path / "mixed/stages/toy")
  np.testing.assert_allclose(model.head[...], params_of(single)["head"], rtol=1e-3, atol=1e-5)


def test_a_run_goes_on_before_a_damaged_checkpoint_and_ends_in_the_same_bits(undisturbed, tmp_path, capsys):
  stage = train(make_run(steps=12, keep=3), tmp_path)
  checkpoints = store.checkpoints_folder(stage)
  shutil.rmtree(checkpoints / "12")
  (checkpoints / "8/moments/manifest.ocdbt").write_bytes(b"")
  train(make_run(steps=12), tmp_path)
  said = capsys.readouterr().out
  assert "step 8 is damaged (moments/manifest.ocdbt has 0 bytes" in said and "going on from step 4" in said
  assert_same_bits(undisturbed, stage)
  assert curve(undisturbed) == curve(stage)
