import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.emova import spiral as fine_tuning_file
from configs.emova import spiral_pretrain as config_file
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.speech.spiral_pretraining import SPIRAL2_PRETRAINING, SpiralPretrainingConfig
from omni_jax.train.loop import Run, train
from omni_jax.train.metrics import read_metrics
from omni_jax.train.optimizer import Average, OptimizerConfig, make_optimizer
from omni_jax.train.spiral_losses import ContrastiveLoss
from omni_jax.train.state import describe
from tests.train.stages import params_of
from tests.train.test_spiral_losses import SMALL, speech

__all__ = ["speech"]  # the corpus is a fixture of this module too
MODEL = SpiralPretrainingConfig(encoder=SMALL.encoder, width=16, predictor_depth=1)
LOSS = ContrastiveLoss(negatives=5, time_frames=8, most_shift=3)


def test_the_loss_is_the_cross_entropy_among_frames_of_one_recording():
  generator = np.random.default_rng(0)
  guesses, targets = generator.normal(size=(2, 2, 5, 8)).astype(np.float32)
  lengths = jnp.array([5, 2])
  one = dataclasses.replace(LOSS, negatives=1, temperature=0.5)
  cosine = np.einsum("bte,bse->bts", guesses, targets) / (
    np.linalg.norm(guesses, axis=-1)[:, :, None] * np.linalg.norm(targets, axis=-1)[:, None]
  )
  # With two frames there is one other: nothing is left to chance.
  expected = [np.logaddexp(0, (cosine[1, t, 1 - t] - cosine[1, t, t]) / 0.5) for t in (0, 1)]
  loss, metrics = one.contrast(jnp.asarray(guesses[1:]), jnp.asarray(targets[1:]), lengths[1:], key=jax.random.key(0))
  assert float(loss) == pytest.approx(np.mean(expected), rel=1e-5)
  assert float(metrics["accuracy"][0]) == sum(value < np.log(2) for value in expected)
  both, counted = LOSS.contrast(jnp.asarray(guesses), jnp.asarray(targets), lengths, key=jax.random.key(0))
  assert float(counted["contrastive"][1]) == 7 and np.isfinite(both)


def test_equal_targets_are_no_negatives():
  same = jnp.ones((1, 4, 8))
  loss, _ = LOSS.contrast(same, same, jnp.array([4]), key=jax.random.key(0))
  assert float(loss) == pytest.approx(0.0, abs=1e-6)


def test_masks_cover_their_share_within_the_recording():
  features, num_frames = jnp.full((64, 400, 128), 2.0), jnp.full(64, 300)
  masked = np.asarray(ContrastiveLoss().mask(features, num_frames, key=jax.random.key(0)))
  vector = np.asarray(ContrastiveLoss().mask_vector(128))
  in_mel = (masked == 0).all(1)
  in_time = (np.where(in_mel[:, None], vector, masked) == vector).all(-1)
  assert 0.3 < in_time[:, :300].mean() < 0.45 and not in_time[:, 300:].any()  # 0.5 less what overlaps
  assert 0.2 < in_mel.mean() < 0.4
  assert vector.std() == pytest.approx(0.01, rel=0.2)


def test_a_shifted_recording_stands_between_masked_frames():
  features = jnp.arange(1, 41, dtype=jnp.float32)[None, :, None] * jnp.ones((2, 1, 4))
  num_frames = np.array([40, 30])
  features = jnp.where(jnp.arange(40)[None, :, None] < num_frames[:, None, None], features, 0.0)
  shifts = set()
  for seed in range(8):
    moved, lengths, before = LOSS.shift(features, jnp.asarray(num_frames), unit=4, key=jax.random.key(seed))
    first, after = 4 * int(before), np.asarray(lengths) - num_frames - 4 * int(before)
    shifts.add((int(before), int(after[0])))
    assert after[0] == after[1] and after[0] % 4 == 0
    for row, count in enumerate(num_frames):
      np.testing.assert_array_equal(moved[row, first : first + count], features[row, :count])
      outside = np.r_[0:first, first + count : lengths[row]]
      np.testing.assert_array_equal(moved[row, outside], np.tile(LOSS.mask_vector(4), (len(outside), 1)))
      assert not np.asarray(moved[row, lengths[row] :]).any()
  assert len(shifts) > 3


def test_the_teacher_starts_as_the_student_and_follows_it():
  model = jax.jit(lambda key: MODEL.make(key=key))(jax.random.key(0))
  leaves = trees.flatten(model)
  for path, leaf in leaves.items():
    if path.startswith("teacher_"):
      np.testing.assert_array_equal(leaf, leaves[path.removeprefix("teacher_")])
  parameters = {"student.a": jnp.array([1.0, 2.0]), "teacher.a": jnp.array([0.0, 4.0])}
  config = OptimizerConfig(
    learning_rate=0.1,
    schedule="constant",
    weight_decay=0.1,
    averages=(Average(path="teacher", of="student", momentum=0.9, final=1.0),),
  )
  optimizer = make_optimizer(config, parameters=describe(parameters), steps=2)
  moments = optimizer.transform.init(parameters)
  for momentum in (0.9, 0.95):  # at the beginning, and half of the way on a cosine
    gradient = {"student.a": jnp.array([1.0, -1.0]), "teacher.a": jnp.zeros(2)}
    updates: Any
    updates, moments = optimizer.transform.update(gradient, moments, parameters)
    moved = {path: parameters[path] + updates[path] for path in parameters}
    expected = momentum * parameters["teacher.a"] + (1 - momentum) * moved["student.a"]
    np.testing.assert_allclose(moved["teacher.a"], expected, rtol=1e-6)
    assert not np.array_equal(moved["student.a"], parameters["student.a"])
    parameters = moved


@pytest.mark.parametrize(
  "average",
  [
    Average(path="teacher", of="pupil", momentum=0.9, final=1.0),
    Average(path="coach", of="student", momentum=0.9, final=1.0),
  ],
)
def test_averages_without_a_pair_are_told(average):
  parameters = {"student.a": jnp.zeros(2), "teacher.a": jnp.zeros(2)}
  config = OptimizerConfig(learning_rate=0.1, averages=(average,))
  with pytest.raises(UserError, match=average.path):
    make_optimizer(config, parameters=describe(parameters), steps=2)
  with pytest.raises(UserError, match="momentum 2"):
    Average(path="teacher", of="student", momentum=2, final=1.0)


def test_pre_training_trains_through_the_loop(speech, tmp_path):
  run = Run(
    name="spiral_pretrain",
    model=MODEL,
    loss=LOSS,
    optimizer=OptimizerConfig(
      learning_rate=3e-3, warmup_steps=5, schedule="constant", clip_norm=1.0, averages=config_file.averages(0.9, 0.99)
    ),
    data=speech,
    steps=30,
    log_every=1,
  )
  stage = train(run, tmp_path)
  lines = read_metrics(stage)
  losses, right = ([line[name] for line in lines] for name in ("loss", "accuracy"))
  assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:3]) and np.mean(right[-5:]) > np.mean(right[:3])
  parameters = params_of(stage)
  distance = [
    np.abs(leaf - parameters[path.removeprefix("teacher_")]).max()
    for path, leaf in parameters.items()
    if path.startswith("teacher_") and leaf.ndim > 1
  ]
  assert min(distance) > 0 and max(distance) < 0.2


@pytest.mark.parametrize("name", ["tiny", "full"])
def test_fine_tuning_takes_the_encoder_over(name, tmp_path):
  before, after = (getattr(file, name)(tmp_path) for file in (config_file, fine_tuning_file))
  given, wanted = (
    {
      path: leaf.shape
      for path, leaf in trees.flatten(jax.eval_shape(lambda run=run: run.model.make(key=jax.random.key(0)))).items()
      if path.startswith("encoder.")
    }
    for run in (before, after)
  )
  assert given == wanted and len(given) > 20


@pytest.mark.parametrize("name", ["tiny", "smoke", "full"])
def test_configs_fit_their_models(name, tmp_path):
  run = getattr(config_file, name)(tmp_path)
  shapes = jax.eval_shape(lambda: run.model.make(key=jax.random.key(0)))
  optimizer = make_optimizer(run.optimizer, parameters=describe(shapes), steps=run.steps)
  assert not optimizer.frozen
  followed = {path for path in trees.flatten(shapes) if path.startswith("teacher_")}
  moments = trees.flatten(jax.eval_shape(optimizer.transform.init, trees.flatten(shapes)))
  assert followed and not any(path.endswith(f".{name}") for path in moments for name in followed)
  leaves = trees.flatten(shapes)
  state = jax.eval_shape(optimizer.transform.init, leaves)
  updates, _ = jax.eval_shape(optimizer.transform.update, leaves, state, leaves)
  assert {path: leaf.shape for path, leaf in updates.items()} == {path: leaf.shape for path, leaf in leaves.items()}
  if name == "full":
    assert run.model is SPIRAL2_PRETRAINING
