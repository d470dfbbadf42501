"""Vocoders with critics: published sizes as shapes, and the tiny ones over the batches they ask for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.emova import unit_voice, vocoder, vocoder_filters
from configs.mini_omni import snac
from configs.speechgpt import unit_vocoder
from omni_jax.core import sharding, trees
from omni_jax.core.config import from_json, to_json
from omni_jax.train.learner import make_learner

SIZES = {unit_vocoder: 13_485_443, unit_voice: 41_874_224, snac: 19_842_914}
# HiFi-GAN's by periods and by scales, of which the first has weight norm here: 4,097 gains more.
CRITICS = {unit_vocoder: 41_105_770 + 29_618_821 + 4_097, unit_voice: 46_747_132}


def batch_of(data) -> dict:
  """Returns the shapes that the data's `open` promises."""
  numbers = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)  # noqa: E731
  floats = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)  # noqa: E731
  if hasattr(data, "clip_samples"):
    return {"waveform": floats(data.rows, data.clip_samples)}
  if hasattr(data, "buckets"):
    bucket = data.buckets[0]
    frames = -(-round(bucket.seconds * data.sample_rate) // data.hop_samples)
    row = {name: numbers(bucket.rows) for name in ("num_units", "num_frames")} | {"style": numbers(bucket.rows, 3)}
    row |= {"waveform": floats(bucket.rows, frames * data.hop_samples)}
    return row | {"units": numbers(bucket.rows, data.max_units)}
  runs = data.clip_frames + 2 * data.units_around
  batch = {"units": numbers(data.rows, data.clip_frames), "counted": floats(data.rows, runs)}
  batch |= {name: numbers(data.rows, runs) for name in ("reduced", "counts")}
  batch |= {"waveform": floats(data.rows, data.clip_frames * data.hop_samples)}
  return batch | ({"speaker": numbers(data.rows)} if data.speakers else {})


@pytest.mark.parametrize("module", SIZES, ids=lambda module: module.__name__.split(".")[-1])
def test_the_published_size(module, tmp_path):
  run = module.full(tmp_path)
  model = jax.eval_shape(lambda: run.model.make(key=jax.random.key(0)))
  assert trees.count(model) == SIZES[module]
  judges = trees.count(jax.eval_shape(lambda: run.loss.critic.make(key=jax.random.key(0))))
  assert judges == CRITICS.get(module, judges)
  assert from_json(to_json(run)) == run
  hop = getattr(run.model, "hop", None) or getattr(run.model, "decoder", getattr(run.model, "generator", None)).hop
  assert getattr(run.data, "hop_samples", hop) == hop and run.data.sample_rate == run.model.sample_rate


@pytest.mark.parametrize("module", [vocoder_filters, vocoder], ids=["filters", "waveform"])
def test_the_vocoder_of_the_journey_is_heard_while_it_trains(module, tmp_path):
  run = module.smoke(tmp_path)
  rows, size, frames = run.data.rows, 40, run.data.clip_frames + 2 * run.data.margin_frames
  shapes = {"units": (rows, size), "counts": (rows, size), "style": (rows, 3), "first": (rows,)}
  batch = {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in shapes.items()}
  shapes = dict.fromkeys(("f0_hz", "voiced"), (rows, frames)) | {"waveform": (rows, run.data.clip_frames * 160)}
  batch |= {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
  learner = make_learner(run, sharding.make_mesh())
  clips = jax.eval_shape(learner.listen, learner.abstract, batch)
  assert {name: clip.shape for name, clip in clips.items()} == dict.fromkeys(("made", "recorded"), shapes["waveform"])


def test_the_timed_vocoder_speaks_a_hundred_frames_a_second(tmp_path):
  run = unit_vocoder.tiny_timed(tmp_path)
  assert run.model.generator.hop == run.data.hop_samples == 160 and run.model.sample_rate == 16_000
  assert run.model.generator.context == 41 and run.data.clip_frames > 2 * run.model.generator.context
  assert from_json(to_json(run)) == run
  names = [name for name, _, _ in run.loss.losses.distances]
  assert names == ["mel", "mel_25_ms", "mel_15_ms"]
  made = jax.eval_shape(lambda: run.model.make(key=jax.random.key(0)))
  assert trees.count(made) < 2e6


@pytest.mark.slow
@pytest.mark.parametrize("module", SIZES, ids=lambda module: module.__name__.split(".")[-1])
def test_a_step_of_the_tiny_size_takes_its_batch(module, tmp_path):
  run = module.tiny(tmp_path)
  learner = make_learner(run, sharding.make_mesh())
  state, sums = jax.eval_shape(learner.step, learner.abstract, batch_of(run.data))
  assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, learner.abstract)
  assert {"loss", "gradient_norm", "mel", "doubt", "features", "critic", "critic_real", "critic_made"} <= set(sums)
  assert module.smoke(tmp_path).steps < 20 and module.smoke(tmp_path).model == run.model


def voiced(units: np.ndarray, *, hop: int, sample_rate: int) -> np.ndarray:
  """Returns buzzing vowels: harmonics of 125 Hz under two formants that each unit puts elsewhere."""
  time = np.arange(len(units) * hop) / sample_rate
  unit = np.repeat(units, hop)
  hertz = 125.0 * np.arange(1, 40)[:, None]
  weights = sum(np.exp(-(((hertz - formant) / 150.0) ** 2)) for formant in (300 + 60 * unit, 1200 + 170 * unit))
  return (0.1 * (weights * np.sin(2 * np.pi * hertz * time)).sum(0)).astype(np.float32)


@pytest.mark.slow
def test_the_tiny_vocoder_learns_one_batch(tmp_path):
  """Overfitting: within 150 steps the mel distance of a batch is less than half of what it was (0.38)."""
  run = unit_vocoder.tiny(tmp_path)
  learner, data = make_learner(run, sharding.make_mesh()), run.data
  rng = np.random.default_rng(0)
  units = np.repeat(rng.integers(0, 9, (data.rows, data.clip_frames // 4)), 4, axis=1).astype(np.int32)
  sound = [voiced(row, hop=data.hop_samples, sample_rate=data.sample_rate) for row in units]
  batch = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in batch_of(data).items()}
  batch |= {"units": jnp.asarray(units), "waveform": jnp.asarray(np.stack(sound))}
  with jax.set_mesh(sharding.make_mesh()):
    state, distances = learner.create({}), []
    for _ in range(150):
      state, sums = learner.step(state, batch)
      distances.append(float(sums["mel"][0]))
  assert np.mean(distances[-5:]) < np.mean(distances[:3]) / 2
