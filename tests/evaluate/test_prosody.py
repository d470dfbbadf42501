"""Prosody: synthetic tones with known pitch, range and rate are read back as what they are."""

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES, PITCHES, Style
from omni_jax.evaluate import prosody

MEAN_HZ = {"low": 120.0, "normal": 150.0, "high": 188.0}
SECONDS = {"neutral": 1.0, "happy": 1.0, "sad": 1.35, "angry": 0.75}
PHONES = tuple("abcdefabcdef")
RANGE = {"neutral": 2.0, "happy": 5.0, "sad": 1.0, "angry": 2.0}


def voice(style, seed):
  """A buzz whose F0 swings around the style's mean; half a second of silence on either side."""
  draw = np.random.default_rng(seed)
  time = np.arange(int(16000 * SECONDS[style.emotion])) / 16000
  semitones = RANGE[style.emotion] * np.sin(2 * np.pi * 2 * time) * draw.uniform(0.9, 1.1)
  f0 = MEAN_HZ[style.pitch] * draw.uniform(0.97, 1.03) * 2 ** (semitones / 12)
  phase = 2 * np.pi * np.cumsum(f0) / 16000
  sound = sum(np.sin(k * phase) / k for k in range(1, 8)) * 0.2
  return np.concatenate([np.zeros(8000), sound, np.zeros(8000)]).astype(np.float32)


def test_measures_what_was_made():
  found = prosody.measure(voice(Style("male", "neutral", "normal"), 0))
  assert found.f0_hz == pytest.approx(150, rel=0.05)
  assert found.seconds == pytest.approx(1, rel=0.06)
  assert 2.5 < found.f0_range_semitones < 5


def test_fitted_thresholds_read_styles_back():
  styles = [style for style in ALL_STYLES if style.gender == "male"]
  training = [prosody.measure(voice(style, seed)) for style in styles for seed in (1, 2)]
  thresholds = prosody.fit(training, [PHONES] * len(training), [style for style in styles for _ in (1, 2)])

  read = [prosody.read(prosody.measure(voice(style, 9)), PHONES, thresholds) for style in styles]

  assert [reading.pitch for reading in read] == [style.pitch for style in styles]
  assert [reading.emotion for reading in read] == [style.emotion for style in styles]
  assert [reading.rate for reading in read] == [prosody.RATE_OF_EMOTION[style.emotion] for style in styles]


@pytest.mark.parametrize("waveform", [np.zeros(0, np.float32), np.zeros(16000, np.float32)])
def test_silence_measures_nothing(waveform):
  assert prosody.measure(waveform) == (0, 0, 0)


def test_missing_class_is_named():
  styles = [Style("female", "neutral", "low")] * 3
  with pytest.raises(UserError, match="normal pitch, high pitch, slow rate"):
    prosody.fit([prosody.Prosody(100, 2, 1)] * 3, [PHONES] * 3, styles)


def test_long_phones_do_not_make_speech_slow():
  # Two words of three phones, one of long ones; half of the recordings are sad, which takes 1.35 times as long.
  lengths = {"a": 0.2, "t": 0.05}
  said = [tuple("aat"), tuple("att")] * 24
  styles = [Style("male", emotion, pitch) for emotion in ("neutral", "sad", "happy", "angry") for pitch in PITCHES] * 4
  measured = [
    prosody.Prosody(MEAN_HZ[style.pitch], RANGE[style.emotion], SECONDS[style.emotion] * sum(map(lengths.get, word)))
    for word, style in zip(said, styles, strict=True)
  ]
  thresholds = prosody.fit(measured, said, styles)
  assert thresholds.phone_seconds["a"] > 2 * thresholds.phone_seconds["t"]
  read = [prosody.read(found, word, thresholds) for found, word in zip(measured, said, strict=True)]
  assert [reading.emotion for reading in read] == [style.emotion for style in styles]
