import numpy as np
import pytest

from omni_jax.core.styles import Style
from omni_jax.prepare.pitch import track_f0
from omni_jax.prepare.voices.catalogue import speak


def pulses(f0_hz, seconds=0.5):
  phase = 2 * np.pi * np.cumsum(np.full(int(16000 * seconds), f0_hz) / 16000)
  return (0.05 * sum(np.cos(harmonic * phase) for harmonic in range(1, 12))).astype(np.float32)


@pytest.mark.parametrize("f0_hz", [75.0, 100.0, 152.0, 238.0, 390.0])
def test_a_steady_voice_is_tracked_to_half_a_percent(f0_hz):
  f0, voiced = track_f0(pulses(f0_hz))
  inner = slice(4, -4)
  assert voiced[inner].all()
  assert np.abs(f0[inner] / f0_hz - 1).max() < 0.005


@pytest.mark.parametrize("num_samples", [0, 1, 159, 160, 161, 8000])
def test_there_is_a_frame_for_each_hop_begun(num_samples):
  f0, voiced = track_f0(np.zeros(num_samples, np.float32))
  assert f0.shape == voiced.shape == (-(-num_samples // 160),)
  assert not voiced.any() and not f0.any()


def test_noise_is_unvoiced():
  noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
  assert track_f0(noise).voiced.mean() < 0.1


def test_loudness_does_not_matter():
  quiet, loud = track_f0(0.01 * pulses(150.0)), track_f0(pulses(150.0))
  np.testing.assert_allclose(quiet.f0_hz, loud.f0_hz, rtol=1e-3)


@pytest.mark.slow  # librosa compiles for a minute when its cache is cold
def test_agrees_with_librosa_on_speech():
  librosa = pytest.importorskip("librosa")
  waveform = speak("we can play near the river today", Style("female", "happy", "normal"), voice_name="espeak:f1")
  ours, voiced = track_f0(waveform)
  hop = 160
  theirs = librosa.yin(
    np.pad(waveform, 480), fmin=70, fmax=400, sr=16000, frame_length=1040, hop_length=hop, center=False
  )
  theirs = theirs[: len(ours)]  # frame t of `theirs` is centred within a hop of ours
  steady = voiced[: len(theirs)]
  agree = np.abs(np.log2(theirs[steady] / ours[: len(theirs)][steady])) < 1 / 12
  assert voiced.mean() > 0.4
  assert agree.mean() > 0.85
