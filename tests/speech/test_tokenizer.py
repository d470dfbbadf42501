import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.emova import tokenizer as config_file
from omni_jax.core import trees
from omni_jax.speech.tokenizer import greedy_phones

TINY = dataclasses.replace(
  config_file.MODEL, num_phones=6, stem_width=16, width=24, depth=2, decoder_width=16, decoder_depth=1
)


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


def test_loudness_does_not_matter(model):
  (waveform,) = _waveforms(16000)
  np.testing.assert_array_equal(model.encode(waveform), model.encode(waveform * 0.125))


def test_units_are_spread_at_the_start(model):
  units = np.concatenate(model.encode_batch(_waveforms(*[24000] * 8)))
  digits = units[:, None] // [1, 8, 64, 512] % 8
  assert all(len(set(digits[:, dimension])) >= 4 for dimension in range(4))


def test_every_encoder_parameter_reaches_the_phones(model):
  (waveform,) = _waveforms(16000)

  def total(model):
    samples = jnp.array([16000])
    outputs = model.decoder(model.codes(jnp.asarray(waveform)[None], samples), model.num_units(samples))
    return jnp.square(outputs).sum()

  gradients = trees.flatten(jax.jit(jax.grad(total))(model))
  assert [path for path, gradient in gradients.items() if not float(jnp.abs(gradient).max()) > 0] == [
    "phone_probe.bias",
    "phone_probe.weight",
  ]


def test_phones_are_read_without_blanks_and_repeats(model):
  best = [6, 2, 2, 6, 2, 3, 3, 6]
  assert greedy_phones(np.eye(7)[best]) == [2, 2, 3]
  assert all(0 <= phone < 6 for phone in model.phones_batch(_waveforms(16000))[0])
