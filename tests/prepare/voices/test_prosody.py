import itertools

import numpy as np
import pytest

from omni_jax.core.styles import ALL_STYLES, Style
from omni_jax.prepare.phonemes import phones
from omni_jax.prepare.pitch import track_f0
from omni_jax.prepare.voices.catalogue import speak, voice
from omni_jax.prepare.voices.flite import flite_installed
from omni_jax.prepare.voices.prosody import MEAN_F0_HZ, PITCH_SCALE, level, prosody_of, trim, usual_seconds

TEXT = "we can play near the river today"
TEXTS = (TEXT, "the captain opened a small window", "two and three make five", "please bring me the green bottle")
VOICES = ["espeak:f1", "espeak:m7", "flite:slt", "flite:awb", "flite:kal16"]


def usual_rate(name):
  """Returns how fast the voice says TEXT at the neutral rate."""
  waveform = speak(TEXT, Style(voice(name).gender, "neutral", "normal"), voice_name=name)
  return usual_seconds(phones(TEXT)) / (len(waveform) / 16000 - 0.16)


@pytest.mark.parametrize("name", VOICES)
def test_voices_share_one_rate(name):
  if name.startswith("flite") and not flite_installed():
    pytest.skip("flite is not installed")
  style = Style(voice(name).gender, "happy", "normal")
  seconds = sum(len(speak(text, style, voice_name=name)) / 16000 - 0.16 for text in TEXTS)
  assert 0.88 < sum(usual_seconds(phones(text)) for text in TEXTS) / seconds < 1.12


@pytest.mark.parametrize("name", VOICES)
def test_every_style_is_measured_again_in_the_waveform(name):
  if name.startswith("flite") and not flite_installed():
    pytest.skip("flite is not installed")
  for style in (style for style in ALL_STYLES if style.gender == voice(name).gender and style.pitch != "low"):
    waveform = speak(TEXT, style, voice_name=name)
    asked = prosody_of(style, style.gender)
    f0_hz, voiced = track_f0(waveform)
    semitones = 12 * np.log2(f0_hz[voiced])
    low, middle, high = np.quantile(semitones, (0.1, 0.5, 0.9))
    deviation = (high - low) / 2.56
    assert abs(middle - 12 * np.log2(asked.mean_f0_hz)) < 1.9, style  # half way to the next pitch
    assert {"happy": deviation > 1.5, "sad": deviation < 0.7}.get(style.emotion, 0.5 < deviation < 1.7), (
      style,
      deviation,
    )
    rate = usual_seconds(phones(TEXT)) / (len(waveform) / 16000 - 0.16)
    usual = usual_rate(name)
    assert {"sad": rate < 0.82 * usual, "angry": rate > 1.2 * usual}.get(style.emotion, 0.9 < rate / usual < 1.1), style


def test_pitch_classes_are_far_apart():
  scales = sorted(PITCH_SCALE.values())
  assert min(b / a for a, b in itertools.pairwise(scales)) > 1.2
  assert prosody_of(Style("male", "sad", "high"), "male").mean_f0_hz > MEAN_F0_HZ["male"]


def test_trim_leaves_eighty_milliseconds_and_level_never_clips():
  sound = np.concatenate([np.zeros(9000), np.ones(1600), np.zeros(9000)]).astype(np.float32)
  assert len(trim(sound)) == 1600 + 2 * 1280 - 1
  assert len(trim(np.zeros(50, np.float32))) == 50
  assert np.abs(level(trim(sound))).max() <= 0.95
  assert not level(np.zeros(8, np.float32)).any()
