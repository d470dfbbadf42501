"""Time laid out: which unit each 10 ms frame belongs to, and how frames of filters and F0 become sound."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from omni_jax.core.arrays import Array, Waveform, typed
from omni_jax.speech import istft, source

FRAMES_PER_UNIT = 4  # 100 frames/s over 25 units/s
FEWEST_FRAMES = 2  # of a unit: 20 ms
SILENT = -30.0  # natural logarithm of the magnitude of a filter that lets nothing through
FRAMES_BEFORE, FRAMES_AFTER = 3, 2  # that the samples of a frame depend on (`speak`)


class Layout(NamedTuple):
  """For each frame: the unit it belongs to, frames since that unit began and until it ends, and 1 inside the sound."""

  unit: Int[Array, "B T"]
  since: Int[Array, "B T"]
  until: Int[Array, "B T"]
  valid: Float[Array, "B T"]


class FrameFeatures(NamedTuple):
  """F0 in Hz, and natural logarithms of the filters' magnitudes at mel-spaced frequencies."""

  f0_hz: Float[Array, "B T"]
  harmonic: Float[Array, "B T K"]
  noise: Float[Array, "B T J"]


class VoicedFrames(NamedTuple):
  """Frames with the phase of the pulses at their centres, in cycles: what sound is made of, piece by piece."""

  f0_hz: Float[Array, "B T"]
  phase: Float[Array, "B T"]
  harmonic: Float[Array, "B T K"]
  noise: Float[Array, "B T J"]


@typed
def lay_out(counts: Int[Array, "B U"], first: Int[Array, "B"], num_frames: int) -> Layout:
  """Returns which unit each of `num_frames` frames from `first` on belongs to, when unit u lasts `counts[u]` frames.

  Padding units have a count of 0. Frames before the first and after the last unit are not valid.

  Example: counts [2, 3], first 1, four frames -> units 0 1 1 1, since 1 0 1 2, until 0 2 1 0.
  """
  ends = jnp.cumsum(counts, axis=1)
  time = first[:, None] + jnp.arange(num_frames)[None]
  unit = jnp.sum(ends[:, None, :] <= time[..., None], axis=-1)
  inside = (time >= 0) & (unit < counts.shape[1])
  unit = jnp.minimum(unit, counts.shape[1] - 1)
  end = jnp.take_along_axis(ends, unit, axis=1)
  since = time - end + jnp.take_along_axis(counts, unit, axis=1)
  until = end - 1 - time
  return Layout(unit, jnp.maximum(since, 0), jnp.maximum(until, 0), inside.astype(jnp.float32))


class FrameClock:
  """Mean durations, which are fractions, to whole frames: each end is rounded, so that nothing adds up to a drift.

  An end is at least FEWEST_FRAMES after the one before: end[u] - F u is the running maximum of round(exact[u]) - F u.
  """

  def __init__(self):
    self._exact, self._end = 0.0, 0

  def counts(self, durations: np.ndarray) -> np.ndarray:
    """Returns int32 frames [U] of the next units from their durations [U] in 40 ms frames."""
    exact = self._exact + np.cumsum(FRAMES_PER_UNIT * np.asarray(durations, np.float64))
    least = FEWEST_FRAMES * np.arange(1, len(exact) + 1)
    ends = np.maximum.accumulate(np.maximum(np.round(exact) - least, self._end)) + least
    counts = np.diff(ends, prepend=self._end).astype(np.int32)
    if len(exact):
      self._exact, self._end = float(exact[-1]), int(ends[-1])
    return counts


class PhaseClock:
  """F0 of frames -> phase at their centres, summed as whole ticks: pieces give what the whole gives, bit for bit."""

  def __init__(self):
    self._ticks = 0
    self._last_hz: np.ndarray | None = None

  def phases(self, f0_hz: np.ndarray) -> np.ndarray:
    """Returns cycles, float32 [T], of the next frames; F0 before the first is as there, and the phase zero."""
    if not len(f0_hz):
      return np.zeros(0, np.float32)
    before = f0_hz[:1] if self._last_hz is None else self._last_hz
    ticks = self._ticks + np.cumsum(source.turn(np.concatenate([before, f0_hz])))
    self._ticks, self._last_hz = int(ticks[-1]) % source.TICKS, f0_hz[-1:]
    return ((ticks % source.TICKS) / source.TICKS).astype(np.float32)


def voiced(features: FrameFeatures, start: Float[Array, "B"]) -> VoicedFrames:
  """Returns frames with their phase, summed on the device from `start` cycles at the centre of the one before them."""
  return VoicedFrames(features.f0_hz, source.phases(features.f0_hz, start), features.harmonic, features.noise)


@typed
def speak(frames: VoicedFrames, valid: Float[Array, "B T"], *, first: Int[Array, "B"]) -> Waveform:
  """Returns one hop of samples for each frame; those of a frame depend on 3 frames before and 2 after it.

  Args:
    frames: at least one is valid, and the valid ones are together.
    valid: 1 on frames of the utterance; the others are silent, and F0 there is that of the nearest valid one.
    first: absolute number of the first frame, which chooses the noise.
  """
  inside, size = valid > 0, valid.shape[1]
  begin, end = jnp.argmax(inside, axis=1), size - 1 - jnp.argmax(inside[:, ::-1], axis=1)
  nearest = jnp.clip(jnp.arange(-1, size + 1)[None], begin[:, None], end[:, None])
  controls = jnp.take_along_axis(frames.f0_hz, nearest, axis=1)
  train = source.pulses(controls, jnp.pad(frames.phase, ((0, 0), (1, 0))))
  hiss = source.noise(first * istft.HOP, train.shape[1])
  harmonic, noise = (jnp.where(inside[..., None], bands, SILENT) for bands in (frames.harmonic, frames.noise))
  made = istft.filter_excitation(train, harmonic) + istft.filter_excitation(hiss, noise)
  start = istft.HOP // 2
  return istft.overlap_add(made)[:, start : start + size * istft.HOP]
