"""A training step of the unit-to-speech model: what it compares, what learns from what, and what padding changes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core import trees
from omni_jax.speech.unit_to_speech import EMOVA_UNIT_TO_SPEECH, Noise, Recordings
from tests.speech.drawn import drawn_model
from tests.speech.small_vits import BINS, LATENT, UNITS, draw, small_config, small_model

SIZE, FRAMES, SEGMENT = 6, 14, 5
OPTIONS = {"voice": True, "normed_decoder": True}


def batch(num_units=(6, 4), num_frames=(14, 9)) -> Recordings:
  units = jnp.asarray(np.random.default_rng(0).integers(0, UNITS, (2, SIZE)), jnp.int32)
  spectrogram = jnp.abs(draw((2, FRAMES, BINS), seed=1))
  return Recordings(units, jnp.array(num_units), spectrogram, jnp.array(num_frames))


def noise() -> Noise:
  return Noise(draw((2, SIZE, 2), seed=2), draw((2, FRAMES, LATENT), seed=3))


def imitate(model, given: Recordings):
  valid = (jnp.arange(FRAMES)[None] < given.num_frames[:, None]).astype(jnp.float32)
  condition = model.voice(given.spectrogram, valid)
  return model.imitate(given, condition, noise=noise(), segment_frames=SEGMENT, key=jax.random.key(0))


@functools.cache
def imitated(spoilt: bool):
  given = batch()
  if spoilt:
    frames, units = jnp.arange(FRAMES) >= 9, jnp.arange(SIZE) >= 4
    given = given._replace(
      spectrogram=given.spectrogram.at[1].add(frames[:, None] * 100.0), units=given.units.at[1].add(units * 3)
    )
  return _step()(small_model(**OPTIONS), given)


@functools.cache
def _step():
  return jax.jit(imitate)


def test_what_a_step_compares():
  found = imitated(False)
  assert found.waveform.shape == (2, SEGMENT * small_config().decoder.hop)
  np.testing.assert_array_equal(found.durations.sum(1), [14, 9])
  assert (np.asarray(found.durations)[0] >= 1).all() and not np.asarray(found.durations)[1, 4:].any()
  starts = np.asarray(found.starts)
  assert (starts >= 0).all() and (starts + SEGMENT <= [14, 9]).all()
  assert np.isfinite(found.duration_loss) and np.isfinite(found.divergence) and found.divergence > 0


def test_what_lies_past_the_end_changes_nothing():
  for one, other in zip(imitated(False), imitated(True), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.slow
def test_what_learns_from_what():
  """The duration loss teaches the duration predictor alone, the divergence all but it and the decoder."""

  def losses(model):
    found = imitate(model, batch())
    return jnp.stack([found.duration_loss, found.divergence, jnp.square(found.waveform).mean()])

  taught: dict[str, np.ndarray] = {}
  for path, leaf in trees.flatten(jax.jit(jax.jacrev(losses))(small_model(**OPTIONS))).items():
    assert np.isfinite(leaf).all(), path
    moved = np.abs(np.asarray(leaf)).reshape(3, -1).max(1) > 0
    part = path.split(".")[0]
    taught[part] = taught.get(part, np.zeros(3, bool)) | moved
  assert {part: tuple(map(int, moved)) for part, moved in taught.items()} == {
    "durations": (1, 0, 0),
    "encoder": (0, 1, 0),
    "flow": (0, 1, 0),
    "posterior": (0, 1, 1),
    "decoder": (0, 0, 1),
    "voice": (0, 1, 1),
    "speakers": (0, 0, 0),
  }


def test_dropout_needs_a_key():
  part = drawn_model(dataclasses.replace(small_config().encoder, dropout=0.5))
  units, valid = batch().units, jnp.ones((2, SIZE))
  read = jax.jit(lambda part, key: part(units, valid, key=key).mean)
  still, moved = read(part, None), read(part, jax.random.key(1))
  np.testing.assert_array_equal(still, read(part, None))
  assert np.abs(np.asarray(moved - still)).max() > 0.01
  assert np.abs(np.asarray(moved - read(part, jax.random.key(2)))).max() > 0.01


def test_context_and_sizes_of_the_release():
  config = EMOVA_UNIT_TO_SPEECH
  assert (config.codebook_size, config.decoder.hop, config.sample_rate) == (4096, 256, 22_050)
  assert (config.context, config.decoder.context, config.durations.context) == (45, 13, 52)


@pytest.mark.parametrize("part", ["flow", "durations"])
def test_parts_that_do_not_fit_together(part):
  config = small_config()
  wrong = {"flow": {"latent": 10}, "durations": {"condition": 4}}[part]
  with pytest.raises(AssertionError, match="disagree"):
    dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **wrong)})
