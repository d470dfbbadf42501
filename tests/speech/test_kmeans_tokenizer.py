import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.speech.kmeans_tokenizer import SPEECH_GPT_TOKENIZER
from omni_jax.tokens.units import reduce_units
from tests.models.drawn import drawn
from tests.speech.parts import KMEANS as CONFIG


@pytest.fixture(scope="module")
def model():
  return drawn(CONFIG, deviation=0.5)


def noise(samples, seed=0):
  return np.random.default_rng(seed).normal(size=samples).astype(np.float32)


def test_rates(model):
  assert CONFIG.hubert.window_samples == 400
  assert (model.sample_rate, model.frame_rate, model.num_codebooks, model.codebook_size) == (16000, 50, 1, 30)


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 400, 719, 721, 8000])
def test_units_cover_the_recording(model, samples):
  units = model.encode(noise(samples))
  assert units.shape == (-(-samples // 320),) and units.dtype == np.int32
  assert units.min() >= 0 and units.max() < 30


def test_units_are_the_nearest_centres_of_the_layer(model):
  waveform = noise(4000)
  frames = np.asarray(model.hubert.features(jnp.asarray(waveform[None]), jnp.array([4000]), layer=1))[0]
  expected = np.square(frames[:, None] - np.asarray(model.centres[...])).sum(-1).argmin(-1)
  units = model.encode(waveform)
  assert len(expected) == 12 and len(set(expected.tolist())) > 3
  np.testing.assert_array_equal(units, np.append(expected, expected[-1]))
  np.testing.assert_array_equal(reduce_units(units)[0], reduce_units(expected)[0])


def test_a_batch_gives_the_units_of_each_recording_alone(model):
  waveforms = [noise(samples, seed) for seed, samples in enumerate((3000, 7999, 1, 650))]
  for units, waveform in zip(model.encode_batch(waveforms), waveforms, strict=True):
    np.testing.assert_array_equal(units, model.encode(waveform))


def test_a_long_recording_is_read_in_pieces(model):
  waveform = noise(19_000)
  pieces = [model.encode(waveform[begin : begin + 8000]) for begin in (0, 8000, 16_000)]
  units = model.encode(waveform)
  assert units.shape == (60,)
  np.testing.assert_array_equal(units, np.concatenate(pieces))


def test_durations_fill_the_recording(model):
  waveforms = [noise(3000), noise(7000, 1)]
  encoded = model.encode_batch(waveforms)
  for frames, units in zip(model.time_batch(waveforms, encoded), encoded, strict=True):
    assert len(frames) == len(reduce_units(units)[0]) and frames.dtype == np.int32
    assert frames.min() >= 2 and frames.sum() == 2 * len(units)


def test_silence_is_one_unit_over_and_over(model):
  units = model.encode(np.zeros(6000, np.float32))
  assert len(set(units[4:-5].tolist())) == 1  # but for the ends, which the positions know


@pytest.mark.parametrize(
  "waveform",
  [np.zeros(0), np.zeros((2, 900)), np.array([0.0, np.nan]), np.array([np.inf])],
  ids=["no sample", "stereo", "not a number", "infinite"],
)
def test_bad_sound_is_told(model, waveform):
  with pytest.raises(UserError, match=r"waveform 1(.|\n)*one channel"):
    model.encode_batch([noise(500), waveform])


@pytest.mark.parametrize("changes", [{"layer": 2}, {"longest_seconds": 0.02}, {"num_classes": 0}])
def test_configs_that_do_not_fit_are_told(changes):
  with pytest.raises(UserError):
    dataclasses.replace(CONFIG, **changes)


def test_the_tokenizer_of_speech_gpt():
  config = SPEECH_GPT_TOKENIZER
  assert (config.layer, config.num_classes, config.piece_samples) == (11, 1000, 1_600_000)
  assert config.hubert.hop_samples == 320
