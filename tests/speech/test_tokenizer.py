import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core import trees
from omni_jax.speech.long_recordings import plan_windows
from omni_jax.speech.quantizers import Quantizer
from omni_jax.speech.tokenizer import unit_frames
from omni_jax.speech.unit_reader import greedy_phones
from omni_jax.tokens.units import reduce_units
from tests.speech.parts import TOKENIZER as TINY


@pytest.fixture(scope="module")
def model():
  return TINY.make(key=jax.random.key(0))


def _waveforms(*lengths):
  generator = np.random.default_rng(0)
  return [np.cumsum(generator.normal(size=length)).astype(np.float32) / 50 for length in lengths]


def test_rates(model):
  assert (model.sample_rate, model.frame_rate, model.num_codebooks, model.codebook_size) == (16000, 25, 1, 4096)


@pytest.mark.parametrize("samples", [1, 640, 641, 15999, 16001, 30000])
def test_one_unit_for_each_forty_milliseconds_begun(model, samples):
  units = model.encode(_waveforms(samples)[0])
  assert units.shape == (-(-samples // 640),) and units.dtype == np.int32
  assert units.min() >= 0 and units.max() < 4096


def test_a_padded_batch_gives_the_units_of_each_recording_alone(model):
  waveforms = _waveforms(9000, 16001, 5000, 24000)
  for units, waveform in zip(model.encode_batch(waveforms), waveforms, strict=True):
    np.testing.assert_array_equal(units, model.encode(waveform))


def test_a_long_recording_is_read_in_windows(model, monkeypatch):
  monkeypatch.setattr("omni_jax.speech.tokenizer._WHOLE_SECONDS", 1.0)
  monkeypatch.setattr("omni_jax.speech.tokenizer._CONTEXT_SECONDS", 0.2)
  (waveform,) = _waveforms(16000 * 2 + 333)
  windows = plan_windows(len(waveform), unit=640, whole=25, context=5)
  assert len(windows) > 2
  units = model.encode(waveform)
  read = [model.encode(waveform[window.start : window.stop])[window.kept] for window in windows]
  np.testing.assert_array_equal(units, np.concatenate(read))
  assert model.time_batch([waveform], [units])[0].sum() == 4 * len(units) == 4 * -(-len(waveform) // 640)


def test_each_unit_lasts_at_least_a_frame_and_all_of_them_the_recording(model):
  waveforms = _waveforms(9000, 16001, 300)
  encoded = model.encode_batch(waveforms)
  for frames, units in zip(model.time_batch(waveforms, encoded), encoded, strict=True):
    assert len(frames) == len(reduce_units(units)[0]) and frames.dtype == np.int32
    assert frames.min() >= 1 and frames.sum() == 4 * len(units)


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_unit_ends_where_the_codes_in_between_change(kept):
  quantizer = Quantizer(levels=(8, 8))
  codes = np.zeros((3, 4, 2))
  codes[1, 1 + kept :] = codes[2] = 0.5
  codes += 0.1 * np.random.default_rng(kept).uniform(-1, 1, codes.shape)
  units = np.asarray(quantizer.codes_to_units(jnp.asarray(np.round(codes[None, :, 0] * 4) / 4))[0])
  assert unit_frames(units, codes, quantizer=quantizer).tolist() == [4 + kept + 2, 6 - kept]
  assert unit_frames(units[:1], codes[:1], quantizer=quantizer).tolist() == [4]


def test_loudness_does_not_matter(model):
  (waveform,) = _waveforms(16000)
  np.testing.assert_array_equal(model.encode(waveform), model.encode(waveform * 0.125))


def test_a_frame_lies_at_the_place_of_its_phone_or_between_places(model):
  logits = jnp.full((1, 2, TINY.num_phones + 1), -30.0).at[0, 0, 2].set(30.0).at[0, 1, 3:5].set(30.0)
  places = np.asarray(model.phone_places[...])
  np.testing.assert_allclose(model.places(logits, sharpness=1.0)[0], [places[2], places[3:5].mean(0)], rtol=1e-5)


def test_every_encoder_parameter_reaches_the_phones(model):
  (waveform,) = _waveforms(16000)

  def total(model):
    samples = jnp.array([16000])
    outputs = model.decoder(model.codes(jnp.asarray(waveform)[None], samples), model.num_units(samples))
    return jnp.square(outputs).sum()

  gradients = trees.flatten(jax.jit(jax.grad(total))(model))
  assert all(float(jnp.abs(gradient).max()) > 0 for gradient in gradients.values())


def test_phones_are_read_without_blanks_and_repeats(model):
  best = [6, 2, 2, 6, 2, 3, 3, 6]
  assert greedy_phones(np.eye(7)[best]) == [2, 2, 3]
  assert all(0 <= phone < 6 for phone in model.phones_batch(_waveforms(16000))[0])
