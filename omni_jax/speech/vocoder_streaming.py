"""From a trained network to sound, whole or while units arrive; both give the same samples.

The stages of a stream (`streams.py`), each in windows that hold its full context:

    units  --[units_behind, units_ahead]--> hidden states, durations --laid out in time--> frames
    frames --[frames_around on both sides]--> F0 and filters --phase, summed--> voiced frames
    voiced frames --[3 before, 2 after: they overlap]--> samples

F0 is summed into phase, so a frame must come out with the same bits however units arrive: windows lie at fixed places
(`windows.py`), and an utterance that is spoken whole is a stream that is given everything at once.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core.arrays import bucket
from omni_jax.core.styles import Style
from omni_jax.speech import frames as time
from omni_jax.speech import istft
from omni_jax.speech.streams import Each, Stream
from omni_jax.speech.windows import WindowStream
from omni_jax.tokens.units import check_units

_UNIT_WINDOW = 128
_FRAME_WINDOW = 256
_SMALLEST = 32
_UNITS_PER_SECOND = 25  # durations are in units of 40 ms


class _Compiled(NamedTuple):
  read: Any
  shape: Any
  speak: Any


class _LaidFrames(NamedTuple):
  """Frames before the network at their rate: the state of their unit, frames since it began and until it ends."""

  hidden: np.ndarray
  since: np.ndarray
  until: np.ndarray


@functools.cache
def _compiled() -> _Compiled:
  def read(network, units, valid, styles):
    return network.read(units, valid, styles)

  def shape(network, laid, valid, styles):
    own = jnp.broadcast_to(jnp.arange(valid.shape[1]), valid.shape)
    return network.shape(laid.hidden, time.Layout(own, laid.since, laid.until, valid), styles)

  def speak(frames, valid, first):
    return time.speak(frames, valid, first=first)

  return _Compiled(jax.jit(read), jax.jit(shape), jax.jit(speak))


def seconds(network: Any, units: Sequence[np.ndarray], styles: Sequence[Style]) -> list[float]:
  """Returns how long each row of reduced units [U] lasts in its style, before frames are rounded to 10 ms each."""
  longest = max([len(row) for row in units], default=0)
  shape = tuple(bucket(size, smallest=_SMALLEST) for size in (len(units), longest))
  padded, valid, places = np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.zeros((shape[0], 3), np.int32)
  for number, (row, style) in enumerate(zip(units, styles, strict=True)):
    padded[number, : len(row)], valid[number, : len(row)], places[number] = row, 1.0, style.indices
  durations = _compiled().read(network, padded, valid, places).durations
  return [float(total) for total in np.asarray(durations).sum(axis=1)[: len(units)] / _UNITS_PER_SECOND]


def stream(network: Any, style: Style) -> Stream:
  """Returns an empty stream from reduced units to samples at 16 kHz, spoken by `network` in `style`."""
  config, styles = network.config, np.array([style.indices], np.int32)
  behind, ahead, around = config.units_behind, config.units_ahead, config.frames_around
  assert behind + ahead < _UNIT_WINDOW, "the context of a unit fits the window"
  assert 2 * around < _FRAME_WINDOW, "the context of a frame fits the window"

  def read(units: Any, valid: Any, first: Any) -> Any:
    del first
    return _compiled().read(network, units, valid, styles)

  def shape(laid: Any, valid: Any, first: Any) -> Any:
    del first
    return _compiled().shape(network, laid, valid, styles)

  spoken = time.FRAMES_BEFORE + time.FRAMES_AFTER
  return Stream(
    [
      WindowStream(read, hop=1, before=behind, after=ahead, chunk=_UNIT_WINDOW - behind - ahead, least=1),
      Each(_in_time(time.FrameClock())),
      WindowStream(shape, hop=1, before=around, after=around, chunk=_FRAME_WINDOW - 2 * around, least=1),
      Each(_voiced(time.PhaseClock())),
      WindowStream(
        _compiled().speak, hop=istft.HOP, before=time.FRAMES_BEFORE, after=time.FRAMES_AFTER,
        chunk=_FRAME_WINDOW - spoken, least=1,
      ),
    ],
    check=functools.partial(check_units, codebook_size=config.codebook_size),
    empty=np.zeros(0, np.float32),
  )  # fmt: skip


def _in_time(clock: time.FrameClock) -> Any:
  """Returns the function that repeats units for the frames they last."""

  def lay(read: Any) -> _LaidFrames:
    counts = clock.counts(read.durations)
    ends = np.repeat(np.cumsum(counts), counts)
    place = np.arange(len(ends))
    since = place - ends + np.repeat(counts, counts)
    hidden = np.repeat(read.hidden, counts, axis=0)
    return _LaidFrames(hidden, since.astype(np.int32), (ends - 1 - place).astype(np.int32))

  return lay


def _voiced(clock: time.PhaseClock) -> Any:
  """Returns the function that adds the phase to frames."""

  def add(features: Any) -> time.VoicedFrames:
    phases: Any = clock.phases(features.f0_hz)  # an array of the host; the named types are those of a trace
    return time.VoicedFrames(features.f0_hz, phases, features.harmonic, features.noise)

  return add
