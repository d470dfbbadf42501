"""Style measured on the waveform: mean pitch, pitch range and rate, against thresholds fitted on real recordings.

The styles of the corpus are synthetic prosody classes (stated settings of mean F0, F0 range and rate), so each can be
read off the sound without any model of ours: pitch from the median F0, emotion from rate and F0 range.

    slow -> sad      fast -> angry      else: wide F0 range -> happy, narrower -> neutral

The thresholds of a voice are those that divide its own training recordings best. Rate is relative to how long the voice
takes for the same phones when neutral: vowels last longer than stops, which phones a second would take for slowness.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import PITCHES, Style
from omni_jax.prepare.audio import SAMPLE_RATE
from omni_jax.prepare.pitch import track_f0
from omni_jax.prepare.voices.prosody import DURATION_SCALE

RATES = ("slow", "normal", "fast")
RATE_OF_EMOTION: Mapping[str, str] = {
  emotion: "slow" if scale > 1 else "fast" if scale < 1 else "normal" for emotion, scale in DURATION_SCALE.items()
}
_HOP_SAMPLES = 160
_SILENCE = 0.02  # of the loudest frame: what is quieter at either end is not speech
_FEWEST_VOICED = 5
_PULL = 3.0  # of a phone towards the mean length, in recordings; 1 to 30 read held-out rates equally well (97 to 98 %)


class Prosody(NamedTuple):
  """What is measured: median F0 in Hz, F0 range in semitones (10th to 90th percentile), seconds without silence."""

  f0_hz: float
  f0_range_semitones: float
  seconds: float


class Reading(NamedTuple):
  """The classes that a measurement falls in."""

  pitch: str
  rate: str
  emotion: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thresholds:
  """What a voice's training recordings tell.

  Attributes:
    phone_seconds: how long each phone lasts in neutral speech; `""` is the constant of an utterance, `*` any other.
    pitch_hz: borders low|normal|high.
    rate: borders slow|normal|fast, as expected neutral seconds over seconds: 1 is the neutral rate.
    wide_semitones: border of the F0 range between neutral and happy.
  """

  phone_seconds: Mapping[str, float]
  pitch_hz: tuple[float, float]
  rate: tuple[float, float]
  wide_semitones: float


def measure(waveform: np.ndarray) -> Prosody:
  """Returns the prosody of one utterance at 16 kHz; a waveform without a voiced stretch gives zeros."""
  pitch = track_f0(waveform, hop_samples=_HOP_SAMPLES)
  f0 = pitch.f0_hz[pitch.voiced]
  if len(f0) < _FEWEST_VOICED:
    return Prosody(0.0, 0.0, 0.0)
  low, high = np.quantile(f0, (0.1, 0.9))
  return Prosody(float(np.median(f0)), float(12 * np.log2(high / low)), _spoken_samples(waveform) / SAMPLE_RATE)


def lacking(styles: Sequence[Style]) -> list[str]:
  """Returns the classes that recordings of these styles lack, so that thresholds cannot be fitted; empty if none."""
  pitches = {f"{style.pitch} pitch" for style in styles}
  rates = {f"{RATE_OF_EMOTION[style.emotion]} rate" for style in styles}
  have = pitches | rates | {style.emotion for style in styles}
  wanted = [f"{name} pitch" for name in PITCHES] + [f"{name} rate" for name in RATES] + ["neutral", "happy"]
  return [name for name in wanted if name not in have]


def fit(measurements: Sequence[Prosody], phones: Sequence[Sequence[str]], styles: Sequence[Style]) -> Thresholds:
  """Returns the thresholds that divide these recordings of one voice with the fewest (balanced) errors.

  Raises:
    UserError: a pitch, a rate, `neutral` or `happy` has no recording.
  """
  missing = lacking(styles)
  if missing:
    raise UserError(
      f"no training recording of {', '.join(missing)}",
      where="style thresholds",
      rule="each class of a voice has recordings to fit its thresholds on",
      remedy="raise `style_training`, or make a larger corpus",
    )
  rows = list(zip(measurements, styles, strict=True))
  neutral_seconds = [found.seconds / DURATION_SCALE[style.emotion] for found, style in rows]
  table = _fit_phone_seconds(phones, neutral_seconds)
  rates = [rate_of(found, said, table) for found, said in zip(measurements, phones, strict=True)]
  f0 = {pitch: [m.f0_hz for m, s in rows if s.pitch == pitch] for pitch in PITCHES}
  rate = {name: [r for r, s in zip(rates, styles, strict=True) if RATE_OF_EMOTION[s.emotion] == name] for name in RATES}
  wide = {name: [m.f0_range_semitones for m, s in rows if s.emotion == name] for name in ("neutral", "happy")}
  return Thresholds(
    phone_seconds=table,
    pitch_hz=(_border(f0["low"], f0["normal"]), _border(f0["normal"], f0["high"])),
    rate=(_border(rate["slow"], rate["normal"]), _border(rate["normal"], rate["fast"])),
    wide_semitones=_border(wide["neutral"], wide["happy"]),
  )


def rate_of(prosody: Prosody, phones: Sequence[str], phone_seconds: Mapping[str, float]) -> float:
  """Returns how fast these phones were said against the voice's neutral reading of them: 1 is neutral, 2 twice."""
  expected = phone_seconds[""] + sum(phone_seconds.get(phone, phone_seconds["*"]) for phone in phones)
  return expected / max(prosody.seconds, 1e-3)


def read(prosody: Prosody, phones: Sequence[str], thresholds: Thresholds) -> Reading:
  """Returns the pitch, the rate and the emotion that the measurement shows, given the phones that were to be said."""
  pitch = PITCHES[int(np.searchsorted(thresholds.pitch_hz, prosody.f0_hz))]
  rate = RATES[int(np.searchsorted(thresholds.rate, rate_of(prosody, phones, thresholds.phone_seconds)))]
  still = "happy" if prosody.f0_range_semitones > thresholds.wide_semitones else "neutral"
  return Reading(pitch, rate, {"slow": "sad", "fast": "angry", "normal": still}[rate])


def _fit_phone_seconds(phones: Sequence[Sequence[str]], seconds: Sequence[float]) -> dict[str, float]:
  """Returns the length of each phone by least squares; phones that are rare stay near the mean length."""
  symbols = sorted({phone for row in phones for phone in row})
  counts = np.array([[row.count(symbol) for symbol in symbols] for row in map(list, phones)], float)
  mean = sum(seconds) / max(counts.sum(), 1.0)
  total = np.concatenate([counts, np.ones((len(counts), 1))], axis=1)
  prior = np.append(np.full(len(symbols), mean), 0.0)
  pull = np.diag(np.append(np.full(len(symbols), _PULL), 1e-3))  # the constant is free
  solved = prior + np.linalg.solve(total.T @ total + pull, total.T @ (np.asarray(seconds) - total @ prior))
  table = {symbol: max(float(value), 0.01) for symbol, value in zip(symbols, solved, strict=False)}
  return {**table, "": float(solved[-1]), "*": mean}


def _border(below: Sequence[float], above: Sequence[float]) -> float:
  """Returns the value with the smallest sum of the shares of `below` over it and of `above` under it."""
  lower, upper = np.sort(below), np.sort(above)
  values = np.unique(np.concatenate([lower, upper]))
  borders = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2, values[-1:]])
  wrong_below = 1 - np.searchsorted(lower, borders, side="right") / len(lower)
  wrong_above = np.searchsorted(upper, borders, side="right") / len(upper)
  errors = wrong_below + wrong_above
  best = borders[errors <= errors.min() + 1e-9]
  return float((best.min() + best.max()) / 2)


def _spoken_samples(waveform: np.ndarray) -> int:
  """Returns the samples between the first and the last frame that is not silent."""
  frames = waveform[: len(waveform) // _HOP_SAMPLES * _HOP_SAMPLES].reshape(-1, _HOP_SAMPLES)
  loudness = np.sqrt(np.mean(frames**2, axis=1))
  loud = np.flatnonzero(loudness > _SILENCE * loudness.max())
  return int(loud[-1] - loud[0] + 1) * _HOP_SAMPLES
