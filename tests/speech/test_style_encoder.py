import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.emova import style as config_file
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.speech.style_encoder import split_style

TINY = dataclasses.replace(config_file.MODEL, width=16)


@pytest.fixture(scope="module")
def model():
  return TINY.make(key=jax.random.key(0))


def _tone(f0_hz, seconds=1.0):
  time = np.arange(int(seconds * 16000)) / 16000
  return sum(np.sin(2 * np.pi * f0_hz * harmonic * time) / harmonic for harmonic in range(1, 8)).astype(np.float32) / 4


def test_the_autocorrelation_peaks_at_the_period(model):
  lags = 16000 / np.geomspace(TINY.highest_f0_hz, TINY.lowest_f0_hz, TINY.num_lags)
  for f0_hz in (170.0, 300.0):
    features = model.features(jnp.asarray(_tone(f0_hz))[None], jnp.array([16000]))
    correlation = np.asarray(features)[0, 25, TINY.mel.num_mels :]
    best = lags[correlation[lags < 1.5 * 16000 / f0_hz].argmax()]
    assert abs(np.log2(best * f0_hz / 16000)) < 1 / 12


def test_a_padded_batch_hears_what_each_recording_alone_has(model):
  waveforms = [_tone(120, 0.4), _tone(250, 1.3), _tone(180, 0.9)]
  alone = [model.hear(waveform) for waveform in waveforms]
  assert model.hear_batch(waveforms) == alone and all(isinstance(style, Style) for style in alone)
  padded = np.pad(waveforms[0], (0, 3000))[None]
  short = model(jnp.asarray(waveforms[0])[None], jnp.array([6400]))
  np.testing.assert_allclose(model(jnp.asarray(padded), jnp.array([6400])), short, atol=1e-4)


def test_a_long_recording_is_heard_piece_by_piece(model, monkeypatch):
  waveforms = [_tone(120, 1.0), _tone(250, 1.0), _tone(180, 0.5)]
  monkeypatch.setattr("omni_jax.speech.style_encoder._WHOLE_SECONDS", 1)
  logits = [
    np.asarray(model(jnp.asarray(np.pad(one, (0, 16000 - len(one))))[None], jnp.array([len(one)])))[0] * len(one)
    for one in waveforms
  ]
  expected = [int(part.argmax()) for part in split_style(jnp.asarray(sum(logits)))]
  assert model.hear(np.concatenate(waveforms)) == Style.from_indices(*expected)


@pytest.mark.parametrize("waveform", [np.zeros(0), np.zeros((2, 900)), np.full(900, np.nan), np.zeros(900, int)])
def test_what_cannot_be_heard_is_told(model, waveform):
  with pytest.raises(UserError, match="recording 1 to hear"):
    model.hear_batch([_tone(200, 0.5), waveform])


def test_loudness_does_not_matter(model):
  waveform = jnp.asarray(_tone(200))[None]
  samples = jnp.array([16000])
  np.testing.assert_allclose(model(waveform * 0.1, samples), model(waveform, samples), atol=1e-2)


def test_every_parameter_reaches_the_logits(model):
  def total(model):
    return jnp.square(model.outputs(jnp.asarray(_tone(200))[None], jnp.array([15000]))).sum()

  gradients = trees.flatten(jax.jit(jax.grad(total))(model))
  assert [path for path, gradient in gradients.items() if not float(jnp.abs(gradient).max()) > 0] == []
