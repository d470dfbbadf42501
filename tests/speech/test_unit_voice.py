"""Speaking: pieces equal the whole, padding and windows change nothing, bad input is told."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.speech.alignment import path_of
from omni_jax.speech.conditions import CONDITIONS, Centroids, condition_of
from omni_jax.speech.spectrogram import VITS_FLOOR, SpectrumConfig, magnitude_numpy
from omni_jax.speech.unit_voice import Delivery, UnitVoice, noise_at
from tests.speech.small_vits import CONDITION, LATENT, UNITS, draw, small_model

STYLE = Style("male", "sad", "low")
CENTROIDS = Centroids(CONDITIONS, np.asarray(draw((126, CONDITION))))
units = np.random.default_rng(0).integers(0, UNITS, 11).astype(np.int32)


def voice(**delivery) -> UnitVoice:
  return UnitVoice(small_model(), centroids=CENTROIDS, delivery=Delivery(**{"length": 16.0, **delivery}))


def speak(speaker: UnitVoice, condition) -> np.ndarray:
  """The utterance in pieces of one size, so that all tests compile the same functions."""
  return np.concatenate(list(speaker.pieces(units, condition, piece_frames=16)))


def whole(speaker: UnitVoice, vector) -> np.ndarray:
  """The utterance in one pass, without windows, padding or masks."""
  spoken = speaker.plan(units, vector)
  model, number = speaker.model, spoken.num_frames
  path = jnp.asarray(path_of(spoken.durations, num_frames=number))[None]
  noise = 0.667 * noise_at(jnp.zeros(1, jnp.int32), (number, LATENT), seed=0, stream=1)[None]
  prior = jax.tree.map(lambda part: part[:, : len(units)], spoken.prior)
  sound = jax.jit(lambda: model.sound(model.draw(prior, path, noise=noise), jnp.ones((1, number)), vector[None]))
  return np.asarray(sound())[0]


def test_pieces_equal_the_whole_at_every_size():
  speaker = voice()
  vector = CENTROIDS.vector(condition_of(STYLE))
  offline = whole(speaker, jnp.asarray(vector))
  context = small_model().config.context
  assert len(offline) > (2 * context + 40) * speaker.hop, "there are pieces whose context lies inside"
  assert np.abs(offline).max() > 0.05
  for piece in (3, 16, 40):
    pieces = list(speaker.pieces(units, vector, piece_frames=piece))
    assert all(len(one) == piece * speaker.hop for one in pieces[:-1]) and len(pieces[-1])
    joined = np.concatenate(pieces)
    assert joined.shape == offline.shape
    np.testing.assert_allclose(joined, offline, atol=1e-5)
  np.testing.assert_allclose(speaker.decode(units, STYLE), offline, atol=1e-5)
  stream = speaker.stream(STYLE)
  assert not len(stream.push(units[:4])) and not len(stream.push(units[4:]))
  np.testing.assert_array_equal(stream.finish(), speaker.decode(units, STYLE))
  assert not len(stream.finish())
  with pytest.raises(UserError, match="after the end"):
    stream.push(units)
  assert not len(speaker.stream(STYLE).finish())


def test_less_context_would_not_do():
  """The context is needed: a latent that many frames away is heard, one frame further it is not."""
  model = small_model()
  context, length = model.config.context, 2 * model.config.context + 5
  latents = draw((1, length, LATENT))
  vector = jnp.asarray(CENTROIDS.vectors[:1])
  sound = jax.jit(lambda latents: model.sound(latents, jnp.ones((1, length)), vector))
  before = np.asarray(sound(latents))[0, : model.config.decoder.hop]
  for distance, heard in ((context - 1, True), (context + 1, False)):
    after = np.asarray(sound(latents.at[:, distance].add(1000.0)))[0, : model.config.decoder.hop]
    assert (np.abs(after - before).max() > 0) == heard, distance


def test_the_same_seed_speaks_the_same_and_noise_keeps_its_place():
  vector = CENTROIDS.vector(CONDITIONS[3])
  first, again, other = speak(voice(), vector), speak(voice(), vector), speak(voice(seed=1), vector)
  np.testing.assert_array_equal(first, again)
  assert first.shape != other.shape or np.abs(first - other).max() > 1e-3
  long = noise_at(jnp.zeros(1, jnp.int32), (20, 3), seed=7, stream=1)
  np.testing.assert_array_equal(noise_at(jnp.array([5]), (4, 3), seed=7, stream=1), long[5:9])
  assert np.abs(np.asarray(long - noise_at(jnp.zeros(1, jnp.int32), (20, 3), seed=7, stream=0))).max() > 0.1


def test_conditions_are_heard_and_none_leaves_them_out():
  speaker = voice(noise=0.0, duration_noise=0.0)
  spoken = [speak(speaker, condition) for condition in (CONDITIONS[0], CONDITIONS[90], None)]
  for one, other in ((0, 1), (0, 2), (1, 2)):
    assert len(spoken[one]) != len(spoken[other]) or np.abs(spoken[one] - spoken[other]).max() > 1e-3


def with_shift(shift: float) -> UnitVoice:
  """A voice whose logarithms of durations are all lower by `shift`."""
  model = small_model()
  leaves = trees.flatten(model) | {"durations.affine.shift": jnp.array([shift, 0.0])}
  return UnitVoice(trees.unflatten(model, leaves))


def test_durations_of_zero_are_one_frame_of_nobody():
  silent = with_shift(1e4)
  spoken = silent.plan(units, None)
  assert not spoken.durations.any() and spoken.num_frames == 1
  samples = np.concatenate(list(silent.pieces(units, piece_frames=16)))
  assert samples.shape == (silent.hop,) and np.isfinite(samples).all()


def test_durations_without_end_are_told():
  for shift, number in ((-1e4, "inf"), (np.nan, "nan"), (-200.0, r"[\d.e+]+")):
    with pytest.raises(UserError, match=f"durations of {number} frames"):
      with_shift(shift).speak(units)


@pytest.mark.parametrize(
  ("given", "message"),
  [
    (np.array([3, UNITS]), f"unit {UNITS}"),
    (np.array([-1]), "unit -1"),
    (np.array([0.5]), "float64"),
    (np.array([[1]]), r"\(1, 1\)"),
    (np.zeros(0, np.int32), "0 units"),
    (np.zeros(4097, np.int32), "4097 units"),
  ],
)
def test_units_that_cannot_be_spoken(given, message):
  with pytest.raises(UserError, match=message):
    voice().speak(given)


def test_conditions_that_are_not_known():
  with pytest.raises(UserError, match="unknown condition 'cheerful'"):
    voice().speak(units, "cheerful")
  with pytest.raises(UserError, match="load or compute"):
    UnitVoice(small_model()).speak(units, CONDITIONS[0])
  with pytest.raises(UserError, match=r"shape \(4,\)"):
    voice().speak(units, np.zeros(4))
  with pytest.raises(UserError, match="width 3"):
    UnitVoice(small_model(), centroids=dataclasses.replace(CENTROIDS, vectors=np.zeros((126, 3))))
  with pytest.raises(UserError, match="takes no condition"):
    UnitVoice(small_model(condition=0)).speak(units, np.zeros(0))


@pytest.mark.parametrize("wrong", [{"length": 0.0}, {"length": np.nan}, {"noise": -1.0}, {"duration_noise": np.inf}])
def test_deliveries_that_make_no_sense(wrong):
  with pytest.raises(UserError, match="delivery"):
    voice(**wrong)


def test_pieces_of_nothing():
  with pytest.raises(UserError, match="0 frames"):
    voice().pieces(units, piece_frames=0)


def test_a_recording_has_a_voice_of_its_own():
  speaker = UnitVoice(small_model(voice=True, normed_decoder=True))
  low, high = (np.sin(np.arange(400) * step).astype(np.float32) for step in (0.5, 1.5))
  vectors = [speaker.hear(low), speaker.hear(high)]
  np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
  assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
  frames = magnitude_numpy(low, SpectrumConfig(fft_size=16, hop_samples=8, window_samples=16), floor=VITS_FLOOR)
  alone = jax.jit(lambda model, frames: model.voice(frames, jnp.ones(frames.shape[:2])))(speaker.model, frames[None])
  np.testing.assert_allclose(vectors[0], alone[0], atol=1e-5)
  own = Centroids.of_corpus(np.array(vectors), [CONDITIONS[0], CONDITIONS[1]])
  np.testing.assert_allclose(own.vector(CONDITIONS[1]), vectors[1], atol=1e-6)


def test_a_recording_that_cannot_be_heard():
  with pytest.raises(UserError, match="hears no voices"):
    voice().hear(np.zeros(400, np.float32))
  with pytest.raises(UserError, match="400 samples that are not finite"):
    UnitVoice(small_model(voice=True, normed_decoder=True)).hear(np.full(400, np.nan))
