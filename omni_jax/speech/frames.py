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


class Sound(NamedTuple):
  """T hops + TAIL samples, and the phase (cycles) at the centre of the frame before and of each of the T frames."""

  samples: Waveform
  phases: Float[Array, "B S"]


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


@typed
def speak(
  features: FrameFeatures, controls: Float[Array, "B S"], *, phase: Float[Array, "B"], first: Int[Array, "B"]
) -> Sound:
  """Returns the sound of T frames, from half a hop before the first frame's own samples.

  Args:
    features: filters of the frames; their F0 is not read, `controls` is.
    controls: F0 in Hz at the centres of the frame before, the T frames, and the frame after.
    phase: cycles at the centre of the frame before.
    first: absolute number of the first frame, which chooses the noise.
  """
  train = source.pulses(controls, phase)
  hiss = source.noise(first * istft.HOP, train.samples.shape[1])
  frames = istft.filter_excitation(train.samples, features.harmonic)
  frames = frames + istft.filter_excitation(hiss, features.noise)
  return Sound(istft.overlap_add(frames), train.phases)
