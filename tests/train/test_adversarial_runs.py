"""A vocoder against its critics is a stage like any other: stopped, resumed, read and split like the rest."""

import json

import jax
import numpy as np
import pytest

from omni_jax.checkpoint import store
from omni_jax.checkpoint.initialise import Start
from omni_jax.core import config, sharding
from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import decode_audio
from omni_jax.train.learner import make_learner
from omni_jax.train.loop import train
from omni_jax.train.metrics import read_metrics
from tests.train.duels import FRAMES, HOP, LOSS, VOCODER, Clips, make_duel
from tests.train.stages import assert_same_bits, curve, in_process, params_of

SOUNDS = ("made", "recorded")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """The stage folder of the run that nobody stopped."""
  return train(make_duel(), tmp_path_factory.mktemp("finished"))


def everything(stage):
  """Returns both halves of a checkpoint as they are on disk."""
  learner = make_learner(make_duel(), sharding.make_mesh())
  opened = store.Store(stage, keep=1)
  parameters, moments, position = opened.restore(params=learner.abstract.parameters, moments=learner.abstract.moments)
  opened.close()
  return jax.tree.map(np.asarray, (parameters, moments)), position


def test_who_loads_the_stage_sees_the_generator_alone(finished):
  stored = store.stored_shapes(finished, step=6)
  assert set(stored) == set(params_of(finished)) and not [path for path in stored if "periods" in path]
  model_config, model = store.load_model(finished)
  assert model_config == VOCODER
  spoken = model.decode(np.array([1, 2, 3], np.int32))
  assert len(spoken) % 4 == 0 and np.isfinite(spoken).all()
  (parameters, moments), _ = everything(finished)
  assert set(parameters) == set(stored)
  assert [path for path in moments["critic_parameters"] if path.startswith("periods.0")]


def test_both_sides_say_how_they_stand(finished):
  lines = read_metrics(finished)
  assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
  wanted = {"loss", "mel", "doubt", "features", "critic", "critic_right", "critic_real", "critic_made", "duration"}
  assert wanted | {"gradient_norm", "critic_gradient_norm"} <= set(lines[0])
  assert lines[0]["critic_made"] != lines[-1]["critic_made"]
  made, recorded = (decode_audio((finished / f"sounds/{name}.flac").read_bytes(), sample_rate=4000) for name in SOUNDS)
  assert made.shape == recorded.shape == (FRAMES * HOP,) and np.abs(recorded).max() > 0.4
  assert json.loads((finished / "run.json").read_text())["run"]["loss"]["critic"]["periods"]["periods"] == [2]


def test_a_terminated_run_ends_in_the_same_bits(finished, tmp_path, monkeypatch):
  monkeypatch.setenv("DUEL_SERVED", "0")
  run = make_duel(data=Clips(stop_at=3, mark=tmp_path / "mark"))
  with pytest.raises(SystemExit) as stopped:
    train(run, tmp_path)
  assert stopped.value.code == 143
  stage = tmp_path / "stages/duel"
  assert 0 < (store.latest_step(stage) or 0) < 6
  assert train(run, tmp_path) == stage
  assert_same_bits(finished, stage)
  assert curve(finished) == curve(stage)
  ours, theirs = everything(finished), everything(stage)
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_stage_starts_from_the_generator_of_another(finished, tmp_path):
  stage = train(make_duel(name="next", start=(Start(finished),), steps=1), tmp_path)
  report = json.loads((stage / "start.json").read_text())
  assert report["new"] == [] and set(report["loaded"]) == set(params_of(finished))


def test_other_critics_make_another_run(finished, tmp_path):
  changed = make_duel(loss=config.replace(LOSS, {"optimizer.learning_rate": "1e-3"}))
  with pytest.raises(UserError, match=r"loss\.optimizer\.learning_rate: 0\.003 -> 0\.001"):
    train(changed, finished.parents[1])


def test_sound_of_another_hop_is_refused():
  learner = make_learner(make_duel(), sharding.make_mesh())
  clips = [Clips().clip(index) for index in range(2)]
  batch = {name: np.stack([clip[name] for clip in clips]) for name in clips[0]}
  batch["waveform"] = batch["waveform"][:, :-HOP]
  with pytest.raises(UserError, match=r"clips of shape \(2, 64\) for recordings of shape \(2, 60\)"):
    jax.eval_shape(learner.step, learner.abstract, jax.tree.map(jax.numpy.asarray, batch))


def test_runs_are_stored_as_before_and_read_back():
  fields = {"name", "model", "loss", "optimizer", "data", "steps", "seed", "start", "mesh", "log_every", "save_every"}
  assert set(config.to_json(make_duel())) == fields | {"type", "keep"}
  assert config.from_json(config.to_json(LOSS)) == LOSS


@pytest.mark.slow
def test_eight_devices_equal_one_and_read_each_other(finished, tmp_path):
  code = f"from tests.train.duels import main as duel; duel({str(tmp_path)!r}, mesh='fsdp=4,tensor=2')"
  result = in_process(code, devices=8)
  assert result.returncode == 0, result.stderr
  np.testing.assert_allclose(np.array(curve(tmp_path / "stages/duel")), np.array(curve(finished)), rtol=1e-4)
  (ours, _), _ = everything(tmp_path / "stages/duel")
  (theirs, _), _ = everything(finished)
  for path, leaf in ours.items():
    np.testing.assert_allclose(leaf, theirs[path], atol=1e-4, err_msg=path)
