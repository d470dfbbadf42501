"""Synthetic prosody classes: what each style sets, so that it can be measured in the waveform again.

These are stated settings of a synthesiser, not acted emotions. Pitch sets the mean F0. Emotion sets the rate and the
range of F0 around its mean:

    emotion   duration   range        told apart by
    neutral   x 1.00     medium
    happy     x 1.00     wide         range
    sad       x 1.40     narrow       rate and range
    angry     x 0.72     medium       rate

Gender is that of the voice. The means are shared by all voices of a gender, so that one threshold serves them all.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from omni_jax.core.styles import Style

MEAN_F0_HZ = {"female": 190.0, "male": 125.0}
PITCH_SCALE = {"low": 0.8, "normal": 1.0, "high": 1.25}
DURATION_SCALE = {"neutral": 1.0, "happy": 1.0, "sad": 1.4, "angry": 0.72}
F0_DEVIATION_SEMITONES = {"neutral": 1.1, "happy": 2.9, "sad": 0.4, "angry": 1.1}

# Milliseconds of each phone at the common neutral rate, over all voices: least squares on a thousand utterances, whose
# logarithmic error is 0.07 then (0.11 when phones are only counted).
_MILLISECONDS = {
  "3": 87, "@": 38, "A": 130, "A@": 111, "D": 68, "E": 78, "I": 43, "N": 88, "O": 101, "O@": 155, "OI": 206, "S": 99,
  "T": 179, "U": 91, "V": 63, "Z": 80, "a": 84, "aI": 99, "aU": 105, "b": 64, "d": 86, "dZ": 109, "e@": 105, "eI": 79,
  "f": 96, "g": 120, "h": 85, "i": 71, "i@": 80, "j": 16, "k": 80, "l": 55, "m": 71, "n": 53, "oU": 122, "p": 105,
  "r": 35, "s": 106, "t": 86, "tS": 149, "u": 114, "v": 108, "w": 95, "z": 92,
}  # fmt: skip
_MILLISECONDS_AT_THE_ENDS = 173  # of onset and last lengthening

_LEVEL = 0.08  # root mean square of every utterance, full scale being 1
_MARGIN_SAMPLES = 1280  # 80 ms of near silence is left on either side
_QUIET = 0.01  # of the loudest sample


@dataclasses.dataclass(frozen=True)
class Prosody:
  """Mean F0 in Hz, standard deviation of log F0 in semitones, duration relative to the voice's neutral one."""

  mean_f0_hz: float
  f0_deviation_semitones: float
  duration_scale: float


def prosody_of(style: Style, gender: str) -> Prosody:
  """Returns what `style` asks of a voice of this gender."""
  return Prosody(
    mean_f0_hz=MEAN_F0_HZ[gender] * PITCH_SCALE[style.pitch],
    f0_deviation_semitones=F0_DEVIATION_SEMITONES[style.emotion],
    duration_scale=DURATION_SCALE[style.emotion],
  )


def usual_seconds(phones: Sequence[str]) -> float:
  """Returns how long these phones last at the neutral rate, without silence: asked over heard is the rate of speech.

  A rate measured against it is close to 1 for neutral and happy, 0.71 for sad, 1.39 for angry speech.
  """
  return (sum(_MILLISECONDS[phone] for phone in phones) + _MILLISECONDS_AT_THE_ENDS) / 1000


def trim(waveform: np.ndarray) -> np.ndarray:
  """Returns float32 [A] with the silence on both sides cut down to 80 ms, never empty."""
  loud = np.flatnonzero(np.abs(waveform) > _QUIET * np.abs(waveform).max(initial=1e-4))
  if not len(loud):
    return waveform
  start, end = loud[0] - _MARGIN_SAMPLES, loud[-1] + _MARGIN_SAMPLES
  return np.pad(waveform[max(0, start) : end], (max(0, -start), max(0, end - len(waveform))))


def level(waveform: np.ndarray) -> np.ndarray:
  """Returns float32 [A] at the common loudness, scaled down further where its peak would clip."""
  root_mean_square = float(np.sqrt(np.mean(waveform**2))) if len(waveform) else 0.0
  scale = min(_LEVEL / max(root_mean_square, 1e-4), 0.95 / max(float(np.abs(waveform).max(initial=0.0)), 1e-4))
  return (waveform * scale).astype(np.float32)
