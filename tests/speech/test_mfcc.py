import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.speech.mel import MelConfig, log_mel_numpy
from omni_jax.speech.mfcc import MfccLabellerConfig
from tests.models.drawn import drawn

MEL = MelConfig(
  sample_rate=16000, hop_samples=320, window_samples=400, fft_size=1024, num_mels=10, low_hz=20.0, high_hz=8000.0,
  floor=1e-4,
)  # fmt: skip
CONFIG = MfccLabellerConfig(mel=MEL, num_coefficients=4, num_classes=7)


def noise(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def frames(waveform, samples):
  return np.asarray(drawn(CONFIG).frames(jnp.asarray(waveform), jnp.asarray(samples, jnp.int32)))


def test_cepstra_are_scipys_with_the_slopes_of_five_frames():
  fft = pytest.importorskip("scipy.fft")
  waveform = noise(1, 4000)
  found = frames(waveform, [4000])[0]
  cepstra = fft.dct(log_mel_numpy(waveform, MEL)[0], norm="ortho")[:, :4]
  np.testing.assert_allclose(found[:, :4], cepstra, atol=1e-3)
  for first in (4, 8):  # a slope of what stands four numbers before
    source = found[:, first - 4 : first]
    held = np.pad(source, ((2, 2), (0, 0)), mode="edge")
    slope = [np.polyfit(np.arange(5), held[time : time + 5], 1)[0] for time in range(len(source))]
    np.testing.assert_allclose(found[:, first : first + 4], slope, atol=1e-3)


def test_a_padded_row_gives_the_frames_of_the_recording_alone():
  waveform = noise(2, 3000)
  waveform[1, 1700:] = 0
  np.testing.assert_allclose(frames(waveform, [3000, 1700])[1, :6], frames(waveform[1:, :1700], [1700])[0], atol=1e-4)


def test_units_are_the_nearest_centres():
  model = drawn(CONFIG, deviation=3.0)
  waveform, samples = jnp.asarray(noise(1, 6000)), jnp.array([6000])
  found = np.asarray(model.frames(waveform, samples))[0]
  expected = np.square(found[:, None] - np.asarray(model.centres[...])).sum(-1).argmin(-1)
  np.testing.assert_array_equal(model.units(waveform, samples)[0], expected)
  assert int(model.num_frames(6000)) == len(expected) == 19


def test_silence_is_finite():
  assert np.isfinite(frames(np.zeros((1, 900), np.float32), [900])).all()


@pytest.mark.parametrize("changes", [{"num_coefficients": 11}, {"num_coefficients": 0}, {"num_classes": 0}])
def test_settings_out_of_range_are_told(changes):
  with pytest.raises(UserError, match="cepstral labels"):
    dataclasses.replace(CONFIG, **changes)
