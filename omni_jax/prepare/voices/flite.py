"""flite as a speaker: a separate process for each utterance (Debian package `flite`; a BSD-like licence).

`slt` (female) and `awb` (male) are the voices of the answers, `kal16` (male) a cheap extra one. `rms` (male) obeys the
rate only, so it is the held-out voice; what it sounds like by itself is measured to be low and of medium range.
"""

import dataclasses
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.prepare.audio import load_audio
from omni_jax.prepare.voices.espeak import LANGUAGE
from omni_jax.prepare.voices.prosody import level, prosody_of, trim


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
  """How one voice answers its settings, measured on forty sentences.

  Attributes:
    gender: of the recorded speaker.
    semitones_per_deviation: semitones of F0 deviation for each unit of (setting / mean F0).
    semitones_at_zero: deviation left when the setting is zero.
    mean_loss: share of mean F0 lost for each unit of (setting / mean F0).
    stretch: duration setting that brings the voice to the common rate.
    obeys_pitch: whether mean and deviation settings have any effect.
  """

  gender: str
  semitones_per_deviation: float
  semitones_at_zero: float
  mean_loss: float
  stretch: float
  obeys_pitch: bool


SPEAKERS = {
  "slt": Calibration(
    gender="female", semitones_per_deviation=6.2, semitones_at_zero=0.2, mean_loss=0.0, stretch=1.0, obeys_pitch=True
  ),
  "awb": Calibration(
    gender="male", semitones_per_deviation=9.0, semitones_at_zero=0.1, mean_loss=0.17, stretch=1.04, obeys_pitch=True
  ),
  "kal16": Calibration(
    gender="male", semitones_per_deviation=12.0, semitones_at_zero=0.2, mean_loss=0.05, stretch=1.13, obeys_pitch=True
  ),
  "rms": Calibration(
    gender="male", semitones_per_deviation=0.0, semitones_at_zero=2.4, mean_loss=0.0, stretch=0.86, obeys_pitch=False
  ),
}


def flite_installed() -> bool:
  """Whether the program `flite` is on the path."""
  return shutil.which("flite") is not None


class FliteVoice:
  """One flite voice."""

  def __init__(self, speaker: str):
    """Takes a name of SPEAKERS."""
    self._speaker, self._calibration = speaker, SPEAKERS[speaker]
    self.name, self.gender, self.language = f"flite:{speaker}", self._calibration.gender, LANGUAGE

  def speak(self, text: str, style: Style) -> np.ndarray:
    """Returns float32 [A] at 16 kHz.

    Raises:
      UserError: flite is not installed or fails.
    """
    with tempfile.TemporaryDirectory(prefix="flite") as folder:
      path = Path(folder) / "speech.wav"
      command = ["flite", "-voice", self._speaker, *self._settings(style), "-t", f" {text}", "-o", str(path)]
      try:
        subprocess.run(command, check=True, capture_output=True)
      except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
          f"flite failed: {error}",
          where=f"voice {self.name}",
          rule="the Debian package flite 2.2 is installed",
          remedy="sudo apt-get install flite",
        ) from error
      return level(trim(load_audio(path)))

  def _settings(self, style: Style) -> list[str]:
    """Returns the flags: the deviation that gives the asked semitones, and the mean corrected for it."""
    prosody, voice = prosody_of(style, self.gender), self._calibration
    features = {"duration_stretch": voice.stretch * prosody.duration_scale}
    if voice.obeys_pitch:
      semitones = max(0.0, prosody.f0_deviation_semitones - voice.semitones_at_zero)
      deviation = semitones / voice.semitones_per_deviation
      features["int_f0_target_mean"] = prosody.mean_f0_hz / (1.0 - voice.mean_loss * deviation)
      features["int_f0_target_stddev"] = prosody.mean_f0_hz * deviation
    return [part for name, value in features.items() for part in ("--setf", f"{name}={value:.4f}")]
